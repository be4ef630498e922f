#!/bin/sh
# Every verb of procpool with grpcurl: grpcurl.sh HOST:PORT, or unix:/PATH
# There is no .proto file here: the server describes itself.

server=${1#unix:}
case $1 in unix:*) unix=-unix ;; *) unix= ;; esac

# call METHOD REQUEST [OPTION...]; errors go to the same place as answers.
call() {
  method=$1 request=$2
  shift 2
  grpcurl -plaintext $unix "$@" -d "$request" "$server" "procpool.v1.PoolService/$method" 2>&1
}

echo '# Map'
call Map '{"function":"analyze_match","values":[1,2]}'

echo '# StarMap'
call StarMap '{"function":"power","values":[[2,10],[3,3]]}'

echo '# Apply, with a keyword argument'
call Apply '{"function":"power","values":[2],"kwargs":{"exponent":5}}'

echo '# Map that collects errors'
call Map '{"function":"square_root","values":[4,-1,9],"options":{"onError":"ON_ERROR_COLLECT"}}'

echo '# IMap: each message has the results that are ready by then; here, they are put together'
call IMap '{"function":"is_prime","values":[7,8,9,10,11]}' | grep -oE 'true|false'

echo '# IMap as they finish: index and result of each; two workers run both items at once'
call IMap '{"function":"rest","values":[1,0],"order":"RESULT_ORDER_UNORDERED"}' | grep -E '^ +"?[0-9]+"?$'

echo '# IMapStream: every JSON object on stdin is a message, and is sent as soon as it is there'
{
  echo '{"config":{"function":"is_prime"}}'
  for number in 7 8 9 10 11; do echo "{\"values\":[$number]}"; done
} | call IMapStream @ | grep -oE 'true|false'

echo '# The function raised'
call Map '{"function":"square_root","values":[4,-1]}'

echo '# No such function'
call Map '{"function":"analyse_match","values":[1]}'

echo '# An item of the wrong form'
call StarMap '{"function":"power","values":[[2,1],3]}'

# A thousand items that rest for half a second each, behind one that does not.
slow="{\"function\":\"rest\",\"values\":[0$(printf ',0.5%.0s' $(seq 1000))]}"

echo '# Map, after its deadline'
call Map "$slow" -max-time 2 | grep Code

echo '# IMap, after its deadline: some results came before'
call IMap "$slow" -max-time 2 | grep -oE '0\.5|Code.*' | uniq

echo '# IMap, cancelled after the first result: grpcurl ends when nobody reads it any more'
call IMap "$slow" | head -n 5

echo '# The slots are free again'
call Map '{"function":"rest","values":[0,0]}' -max-time 10
