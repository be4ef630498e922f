//! The reasons of errors: one list for server, client, metrics and tests.

/// Defines the enum from one list, so that no text is written twice.
macro_rules! reasons {
    ($($name:ident = $text:literal,)*) => {
        /// Why a call or an item failed: the `reason` of the `google.rpc.ErrorInfo` that every error of procpool has, with
        /// the domain `procpool`. The tables in `pool.proto` and `pool_admin.proto` say what each means. More may come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $(
                #[doc = concat!("`", $text, "` on the wire.")]
                $name,
            )*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the reason as it stands in an error.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns the reason that stands in an error; `None` if this version does not know it.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
            }
        }
    };
}

reasons! {
    QueueFull = "QUEUE_FULL",
    ResultsFull = "RESULTS_FULL",
    Draining = "DRAINING",
    PoolDegraded = "POOL_DEGRADED",
    CrashLimit = "CRASH_LIMIT",
    DeadlineUnreachable = "DEADLINE_UNREACHABLE",
    InvalidArgument = "INVALID_ARGUMENT",
    Cancelled = "CANCELLED",
    CancelledByOperator = "CANCELLED_BY_OPERATOR",
    Internal = "INTERNAL",
    FunctionNotFound = "FUNCTION_NOT_FOUND",
    FunctionRaised = "FUNCTION_RAISED",
    ResultNotEncodable = "RESULT_NOT_ENCODABLE",
    InvalidItem = "INVALID_ITEM",
    WorkerOomKilled = "WORKER_OOM_KILLED",
    WorkerCrashed = "WORKER_CRASHED",
    ItemTimeout = "ITEM_TIMEOUT",
    WorkerProtocol = "WORKER_PROTOCOL",
    MessageTooLarge = "MESSAGE_TOO_LARGE",
    NestedCall = "NESTED_CALL",
    NotAnOperator = "NOT_AN_OPERATOR",
    Deadline = "DEADLINE",
    RequestCutShort = "REQUEST_CUT_SHORT",
    WorkerNotFound = "WORKER_NOT_FOUND",
    JobNotFound = "JOB_NOT_FOUND",
    DumpNotSupported = "DUMP_NOT_SUPPORTED",
    DumpNotAnswered = "DUMP_NOT_ANSWERED",
    DumpBusy = "DUMP_BUSY",
    Unimplemented = "UNIMPLEMENTED",
    NotFound = "NOT_FOUND",
}
