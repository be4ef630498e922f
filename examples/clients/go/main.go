// Every verb of procpool with grpc-go: client HOST:PORT, or unix:/PATH, or /PATH
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	pb "procpool/v1"
)

// The library calls again by itself, when and where the server says that it may. grpc-go before 1.40 does so only if
// GRPC_GO_RETRY is "on".
const serviceConfig = `{"methodConfig": [{
	"name": [{"service": "procpool.v1.PoolService"}],
	"waitForReady": true,
	"retryPolicy": {
		"maxAttempts": 5,
		"initialBackoff": "0.2s",
		"maxBackoff": "5s",
		"backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
	}
}]}`

func main() {
	address := os.Args[1]
	options := []grpc.DialOption{
		grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// The server sends up to 64 MiB in a message; grpc takes 4 MiB if nobody says so.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20)),
	}
	if strings.HasPrefix(address, "/") {
		// A path alone needs a dialer of one's own.
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	}
	connection, err := grpc.Dial(address, options...)
	check(err)
	defer connection.Close()
	pool := pb.NewPoolServiceClient(connection)
	unaryCalls(pool)
	streams(pool)
	endlessInput(pool)
	failures(pool)
	deadlines(pool)
	cancel(pool)
}

// Returns a context with a deadline: every call has one.
func within(limit time.Duration) context.Context {
	ctx, _ := context.WithTimeout(context.Background(), limit)
	return ctx
}

func unaryCalls(pool pb.PoolServiceClient) {
	request := &pb.MapRequest{Function: "analyze_match", Items: &pb.MapRequest_Values{Values: toValues(1, 2)}}
	response, err := pool.Map(within(time.Minute), request)
	check(err)
	show("Map", response.GetValues().AsSlice())

	pairs := toValues([]interface{}{2, 10}, []interface{}{3, 3})
	star, err := pool.StarMap(within(time.Minute), &pb.StarMapRequest{Function: "power", Items: &pb.StarMapRequest_Values{Values: pairs}})
	check(err)
	show("StarMap", star.GetValues().AsSlice())

	kwargs, err := structpb.NewStruct(map[string]interface{}{"exponent": 5})
	check(err)
	args := &pb.ApplyRequest_Values{Values: toValues(2)}
	applied, err := pool.Apply(within(time.Minute), &pb.ApplyRequest{Function: "power", Args: args, Kwargs: kwargs})
	check(err)
	show("Apply with a keyword argument", applied.GetValue().AsInterface())

	collect := &pb.CallOptions{OnError: pb.OnError_ON_ERROR_COLLECT}
	roots := &pb.MapRequest{Function: "square_root", Items: &pb.MapRequest_Values{Values: toValues(4, -1, 9)}, Options: collect}
	response, err = pool.Map(within(time.Minute), roots)
	check(err)
	show("Map that collects errors", response.GetValues().AsSlice())
	for _, failed := range response.GetErrors() {
		fmt.Println(" ", describe(failed.GetStatus()))
	}
}

func streams(pool pb.PoolServiceClient) {
	each := func(title string, request *pb.IMapRequest) {
		stream, err := pool.IMap(within(time.Minute), request)
		check(err)
		for {
			response, err := stream.Recv()
			if err == io.EOF {
				return
			}
			check(err)
			for i, result := range response.GetValues().AsSlice() {
				show(fmt.Sprintf("%s, item %d", title, indexOf(response, i)), result)
			}
		}
	}
	each("IMap", &pb.IMapRequest{Function: "is_prime", Items: &pb.IMapRequest_Values{Values: toValues(7, 8, 9, 10, 11)}})
	// Two workers run both items at once; the one that ends first comes first.
	unordered := pb.ResultOrder_RESULT_ORDER_UNORDERED
	each("IMap as they finish", &pb.IMapRequest{
		Function: "rest", Items: &pb.IMapRequest_Values{Values: toValues(1, 0)}, Order: unordered,
	})
}

// Returns the index of the result at a place of a message: they follow the first, or all are named.
func indexOf(response interface {
	GetFirstIndex() uint64
	GetIndexes() []uint64
}, place int) uint64 {
	if indexes := response.GetIndexes(); len(indexes) > 0 {
		return indexes[place]
	}
	return response.GetFirstIndex() + uint64(place)
}

// Feeds an endless input: makes no more of it than the server allows, and tells it what has been taken.
func endlessInput(pool pb.PoolServiceClient) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel() // There is no end to wait for.
	stream, err := pool.IMapStream(ctx)
	check(err)
	config := &pb.IMapStreamConfig{Function: "is_prime", ReportsTaken: true}
	check(stream.Send(&pb.IMapStreamRequest{Config: config}))
	primes, sent, taken := []uint64{}, uint64(0), uint64(0)
	for len(primes) < 1000 {
		response, err := stream.Recv()
		check(err)
		for i, result := range response.GetValues().AsSlice() {
			taken++
			if result == true {
				primes = append(primes, indexOf(response, i))
			}
		}
		items := []interface{}{}
		for ; sent < response.GetItemsAllowed(); sent++ {
			items = append(items, sent)
		}
		values := &pb.IMapStreamRequest_Values{Values: toValues(items...)}
		check(stream.Send(&pb.IMapStreamRequest{Items: values, ResultsTaken: taken}))
	}
	show("IMapStream, the 1000th prime", primes[999])
}

func failures(pool pb.PoolServiceClient) {
	mapOf := func(function string, items ...interface{}) error {
		values := &pb.MapRequest_Values{Values: toValues(items...)}
		_, err := pool.Map(within(time.Minute), &pb.MapRequest{Function: function, Items: values})
		return err
	}
	print := func(title string, err error) { fmt.Printf("%s: %s\n", title, describe(status.Convert(err).Proto())) }
	print("The function raised", mapOf("square_root", 4, -1))
	print("No such function", mapOf("analyse_match", 1))
	wrong := &pb.StarMapRequest_Values{Values: toValues([]interface{}{2, 1}, 3)}
	_, err := pool.StarMap(within(time.Minute), &pb.StarMapRequest{Function: "power", Items: wrong})
	print("An item of the wrong form", err)
}

func rests(first float64, count int, each float64) *structpb.ListValue {
	items := []interface{}{first}
	for len(items) < count {
		items = append(items, each)
	}
	return toValues(items...)
}

func deadlines(pool pb.PoolServiceClient) {
	slow := rests(0.2, 1000, 0.2)
	request := &pb.MapRequest{Function: "rest", Items: &pb.MapRequest_Values{Values: slow}}
	_, err := pool.Map(within(time.Second/2), request)
	fmt.Println("Map, after its deadline:", name(status.Code(err)))

	stream, err := pool.IMap(within(time.Second), &pb.IMapRequest{Function: "rest", Items: &pb.IMapRequest_Values{Values: slow}})
	check(err)
	results := 0
	for err == nil {
		var response *pb.IMapResponse
		response, err = stream.Recv()
		results += len(response.GetValues().GetValues())
	}
	some := map[bool]string{true: "some", false: "no"}[results > 0]
	fmt.Printf("IMap, after its deadline: %s, %s results came before\n", name(status.Code(err)), some)
}

func cancel(pool pb.PoolServiceClient) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	values := &pb.IMapRequest_Values{Values: rests(0, 1001, 0.5)}
	stream, err := pool.IMap(ctx, &pb.IMapRequest{Function: "rest", Items: values})
	check(err)
	response, err := stream.Recv()
	check(err)
	show("IMap, the first result", response.GetValues().AsSlice()[0])
	cancel()
	for err == nil {
		_, err = stream.Recv()
	}
	fmt.Println("IMap, after a cancel:", name(status.Code(err)))
	request := &pb.MapRequest{Function: "rest", Items: &pb.MapRequest_Values{Values: toValues(0, 0)}}
	rested, err := pool.Map(within(10*time.Second), request)
	check(err)
	show("The slots are free again", rested.GetValues().AsSlice())
}

// Returns items as a list of values. The library has whole numbers beyond 2^53 rounded: send them as strings, or as JSON
// in a blob.
func toValues(items ...interface{}) *structpb.ListValue {
	list, err := structpb.NewList(items)
	check(err)
	return list
}

// Describes a google.rpc.Status, of a call or of one item: its code, its reason, and the details that help.
func describe(failed *rpc.Status) string {
	var lines []string
	head, item := name(codes.Code(failed.GetCode())), ""
	for _, detail := range status.FromProto(failed).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			head += " " + detail.GetReason()
			if index, ok := detail.GetMetadata()["index"]; ok {
				item = fmt.Sprintf("item %s: ", index)
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				lines = append(lines, "  wrong field: "+violation.GetField())
			}
		case *errdetails.DebugInfo:
			entries := detail.GetStackEntries()
			for _, entry := range entries[len(entries)-2:] {
				lines = append(lines, "  remote: "+strings.TrimSpace(entry))
			}
		}
	}
	return strings.Join(append([]string{fmt.Sprintf("%s: %s%s", head, item, failed.GetMessage())}, lines...), "\n")
}

// Returns the name of a code as the protocol has it.
func name(code codes.Code) string {
	return map[codes.Code]string{
		codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
		codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND",
	}[code]
}

func show(title string, value interface{}) {
	text, err := json.Marshal(value)
	check(err)
	fmt.Printf("%s: %s\n", title, text)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
