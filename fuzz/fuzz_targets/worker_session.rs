//! A hostile worker → its session. The harness is in pool/src/supervisor/session/fuzzing.rs: the session is private.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: ignore_sigpipe(),
    |data: &[u8]| procpool_pool::supervisor::fuzz_session(data)
);

/// What Rust does before `main`, and libFuzzer, whose `main` it is, does not.
fn ignore_sigpipe() {
    // SAFETY: no handler runs.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
