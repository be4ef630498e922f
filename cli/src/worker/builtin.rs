//! `procpool worker`: the built-in worker, which a server starts as its child when it is given no command.

use std::hint::black_box;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use procpool_worker::{Common, Function, Worker, cancelled};
use serde_json::{Map, Value};

/// As many as cost a few tenths of a second.
const ANALYSIS_ROUNDS: u64 = if cfg!(debug_assertions) { 20_000_000 } else { 300_000_000 };
/// How often a sleeping function looks whether it is still wanted.
const SLEEP_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the worker until its server is done with it.
pub(crate) fn run() -> ExitCode {
    worker().main()
}

fn worker() -> Worker {
    let functions = [
        Function::new("analyze_match", analyze_match)
            .doc("Analyzes a match, the long way: a few tenths of a second of computing.")
            .signature("(id)")
            .example(r#"{"function":"analyze_match","values":[1,2,3]}"#)
            .idempotent(),
        Function::new("power", power)
            .doc("Raises a number to a power.")
            .signature("(base, exponent)")
            .example(r#"{"function":"power","values":[[2,10],[3,3]]}"#)
            .idempotent(),
        Function::new("is_prime", is_prime)
            .doc("Tells whether a whole number is prime, by trial division.")
            .signature("(n)")
            .example(r#"{"function":"is_prime","values":[2,3,4]}"#)
            .idempotent(),
        Function::new("sum_to", sum_to)
            .doc("Adds up 1 to n, the long way.")
            .signature("(n)")
            .example(r#"{"function":"sum_to","values":[10,100]}"#)
            .idempotent(),
        Function::new("echo", |value: Value| value)
            .doc("Returns its argument.")
            .signature("(value)")
            .example(r#"{"function":"echo","values":[1,"two",[3]]}"#)
            .idempotent(),
        Function::new("lookup", lookup)
            .doc("Returns what an object has at a key, or null; the object is the common argument of a map.")
            .signature("(object, key)")
            .example(r#"{"function":"lookup","common_value":{"a":1,"b":2},"values":["a","b"]}"#)
            .idempotent(),
        Function::bytes("echo_bytes", Ok::<_, std::convert::Infallible>)
            .doc("Returns its argument; for blobs.")
            .signature("(blob)")
            .example(r#"{"function":"echo_bytes","blobs":{"blobs":["aGVsbG8="]}}"#)
            .idempotent(),
        Function::new("sleep_ms", sleep_ms)
            .doc("Sleeps so many milliseconds and returns how many it slept; less if it is cancelled.")
            .signature("(milliseconds)")
            .example(r#"{"function":"sleep_ms","values":[100,200]}"#),
        Function::fallible("fail", |message: String| Err::<(), _>(message))
            .doc("Fails with a message.")
            .signature("(message)")
            .example(r#"{"function":"fail","values":["no luck"]}"#),
    ];
    functions.into_iter().fold(Worker::new(), Worker::register)
}

/// What the original script does with a match.
fn analyze_match(id: u64) -> String {
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stdout(), "Analyzing Match #{id}...");
    match analysis_checksum() {
        0 => format!("Result for Match #{id}: Analysis Inconclusive"),
        _ => format!("Result for Match #{id}: Analysis Clear"),
    }
}

/// Sums i² the long way, wrapping around; never 0.
pub(crate) fn analysis_checksum() -> u64 {
    // Without the black box, the compiler knows a formula.
    (1..=ANALYSIS_ROUNDS).fold(0, |sum, i| sum.wrapping_add(black_box(i).wrapping_mul(i)))
}

fn power(base: f64, exponent: f64) -> f64 {
    base.powf(exponent)
}

#[expect(clippy::needless_pass_by_value, reason = "this is how functions are called")]
fn lookup(object: Common<Map<String, Value>>, key: String) -> Option<Value> {
    object.get(&key).cloned()
}

fn is_prime(n: u64) -> bool {
    match n {
        0 | 1 => false,
        2 => true,
        _ if n.is_multiple_of(2) => false,
        _ => (3..).step_by(2).take_while(|divisor| *divisor <= n / divisor).all(|divisor| !n.is_multiple_of(divisor)),
    }
}

fn sum_to(n: u64) -> u64 {
    (1..=n).fold(0, |sum, i| sum.wrapping_add(black_box(i)))
}

fn sleep_ms(milliseconds: u64) -> u64 {
    let (begin, limit) = (Instant::now(), Duration::from_millis(milliseconds));
    while let Some(rest) = limit.checked_sub(begin.elapsed())
        && !rest.is_zero()
        && !cancelled()
    {
        std::thread::sleep(rest.min(SLEEP_INTERVAL));
    }
    let slept = begin.elapsed().min(limit);
    u64::try_from(slept.as_millis()).unwrap_or(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes() {
        let primes: Vec<u64> = (0..30).filter(|&n| is_prime(n)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(1_000_003) && !is_prime(1_000_001));
        assert!(!is_prime(4_294_967_291 * 2) && !is_prime(u64::MAX));
    }

    #[test]
    fn sums_and_powers() {
        assert_eq!(sum_to(10), 55);
        assert!((power(2.0, 10.0) - 1024.0).abs() < f64::EPSILON);
        assert_ne!(analysis_checksum(), 0);
    }

    #[test]
    fn the_functions_have_distinct_names() {
        let names = format!("{:?}", worker());
        assert!(names.contains("analyze_match"), "{names}");
    }
}
