// grpc-go: streams items one by one into IMapStream, as fast as it may; `undrained`: looks at results when it can send no
// more. The messages are made by hand, so that three languages send the same 18 bytes.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

const path = "/procpool.v1.PoolService/"

type asIs struct{}

func (asIs) Marshal(message interface{}) ([]byte, error) { return *message.(*[]byte), nil }
func (asIs) Unmarshal(data []byte, message interface{}) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (asIs) Name() string   { return "proto" }
func (asIs) String() string { return "proto" }

func field(number byte, content []byte) []byte {
	return append([]byte{number<<3 | 2, byte(len(content))}, content...)
}

// fields calls f with the numbers of the fields of a message, and what those with a length contain.
func fields(message []byte, f func(number uint64, content []byte)) {
	for len(message) > 0 {
		key, n := binary.Uvarint(message)
		length, m := binary.Uvarint(message[n:])
		message = message[n+m:]
		if key&7 == 2 {
			f(key>>3, message[:length])
			message = message[length:]
		}
	}
}

func main() {
	address, mode := os.Args[1], os.Args[3]
	numItems, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		log.Fatal(err)
	}
	name := field(1, []byte("sleep_ms"))
	number := make([]byte, 9)
	number[0] = 0x11
	binary.LittleEndian.PutUint64(number[1:], math.Float64bits(1))
	values := field(2, field(1, number))
	config := field(1, name)

	connection, err := grpc.Dial(address, grpc.WithInsecure(), grpc.WithDefaultCallOptions(grpc.ForceCodec(asIs{})))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	kind := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	stream, err := connection.NewStream(context.Background(), kind, path+"IMapStream")
	if err != nil {
		log.Fatal(err)
	}
	var sent int64
	go func() {
		// What fails here fails below, too.
		_ = stream.SendMsg(&config)
		for ; atomic.LoadInt64(&sent) < numItems; atomic.AddInt64(&sent, 1) {
			if stream.SendMsg(&values) != nil {
				return
			}
		}
		_ = stream.CloseSend()
	}()
	if mode == "undrained" {
		// How long it takes to be held up is the machine's business; another call on the connection is answered meanwhile.
		for before := int64(-1); before != atomic.LoadInt64(&sent); time.Sleep(500 * time.Millisecond) {
			before = atomic.LoadInt64(&sent)
			request, response := append(append([]byte(nil), name...), values...), []byte(nil)
			if err := connection.Invoke(context.Background(), path+"Map", &request, &response); err != nil {
				log.Fatal(err)
			}
		}
	}
	received := 0
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			log.Fatal(err)
		}
		fields(message, func(number uint64, content []byte) {
			if number == 3 {
				fields(content, func(uint64, []byte) { received++ })
			}
		})
	}
	fmt.Println(received, "results")
}
