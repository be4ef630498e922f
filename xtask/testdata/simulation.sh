#!/bin/sh
# Plays a simulation: seed 13 breaks a promise, and what begins with seed 20 dies without a word.
first=${PROCPOOL_SEEDS%..*}
end=${PROCPOOL_SEEDS#*..}
if [ "$first" -le 13 ] && [ 13 -lt "$end" ]; then
    echo "replay it with the world of 13 and 150 steps" >&2
    exit 101
fi
[ "$first" -ne 20 ]
