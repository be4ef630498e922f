//! The rules of the protocol, in short; worker.proto and docs/protocol.md have the details.

pub(crate) const ORDER: &str = "Hello is the worker's first frame, Ready its second, and each comes once";
pub(crate) const VERSION: &str = "Hello.protocol_version is 1";
pub(crate) const NO_PAGE: &str = "with journal_bytes = 0 there is no page, and Hello says uses_progress_page = false";
pub(crate) const FUNCTION_NAME: &str =
    "names of functions are unique, 1 to 256 bytes, without control characters, and do not begin with `procpool:`";
pub(crate) const FRAME: &str = "a frame is a big-endian u32, the length, and one WorkerFrame of that length";
pub(crate) const MAX_FRAME: &str = "a length over max_frame_bytes is a protocol error";
pub(crate) const PING: &str = "each Ping is answered with one Pong that has its nonce";
pub(crate) const RESULTS: &str = "each item has exactly one result, in the order of the items, without gaps";
pub(crate) const CHUNK_ORDER: &str = "items run one after the other, in the order of the Run frames";
pub(crate) const ITEMS: &str = "Results.items has exactly `count` items in the kind of the Run";
pub(crate) const VALUES: &str = "results are values that every reader can read: no NaN, no infinity, no unset kind";
pub(crate) const EMPTY_VALUE: &str = "a value of zero bytes is a protocol error; null is null_value";
pub(crate) const FAILURES: &str = "failures are in order of their offsets within the frame, with a kind; tracebacks and data have at most 64 KiB each";
pub(crate) const PLACEHOLDER: &str = "the result of a failed item is null, or an empty blob";
pub(crate) const BEGUN: &str =
    "an item's sequence number is stored in the page before it begins; the number only increases";
pub(crate) const BEGUN_BEFORE_DECODED: &str =
    "an item begins, by page or Started, before it is decoded: a decoding error is its own failure";
pub(crate) const STARTED: &str =
    "without the page, Started comes before each item, in turn, and Results after each item";
pub(crate) const RECALL: &str = "Recall is answered at most once, and only for a chunk that the worker has";
pub(crate) const RECALLED: &str =
    "from first_not_begun on, no item of the chunk has begun, none will, and none has a result";
pub(crate) const CANCEL_OFFSET: &str =
    "Recall.cancel_offset names the only item that is cancelled; if it has ended, none is, neither now nor later";
pub(crate) const END: &str = "the worker exits by itself, within a second, when the socket ends";
pub(crate) const BAD_FRAME: &str = "after an invalid frame the connection cannot be used: the worker exits";
pub(crate) const SHUTDOWN: &str =
    "after Shutdown the worker finishes the running item, sends its result, and exits with code 0";
pub(crate) const SIGTERM: &str = "SIGTERM to its process group ends the worker, within the grace period of the server";
pub(crate) const ORPHANS: &str = "processes that the worker or a function started end before the worker, or with it";
pub(crate) const ALIVE: &str = "the worker runs, reads and answers until Shutdown or the end of the socket";
pub(crate) const ECHO: &str = "the kit needs a function named `echo` to return its argument as it is";
pub(crate) const UNKNOWN_FUNCTION: &str = "each item of an unknown function fails as UNKNOWN_FUNCTION";
pub(crate) const INVALID_ITEM: &str =
    "an item that cannot be decoded, or is not a list in the style STAR, fails as INVALID_ITEM";
pub(crate) const ITEM_ERROR: &str = "a failure concerns one item: the other items have their results";
pub(crate) const COMMON: &str =
    "with Run.common, the function is called as f(common, item) or f(common, *item), with that argument";
pub(crate) const BAD_COMMON: &str =
    "a common argument that cannot be decoded fails each item as INVALID_ITEM, with a message that names `common`";
pub(crate) const STAMP: &str = "with stamp_start, the item's start by CLOCK_MONOTONIC is stored before the item begins";
pub(crate) const JOURNAL: &str =
    "every item before the one that began last has its result in a frame or in the journal";
pub(crate) const FLUSH: &str = "after the frame with its items is sent, the journal's length is set to 0";
