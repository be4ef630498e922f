//! Exit codes: what they are, and which error has which.

use std::process::ExitCode;

use procpool_client::{CallError, ConnectError};

use crate::output::{print_item_error, print_stderr};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Ok = 0,
    /// Some items failed.
    ItemsFailed = 1,
    /// Wrong usage, or an item that is not one.
    BadInput = 2,
    /// No server, or one that takes no calls.
    Unavailable = 3,
    /// The call was refused or failed as a whole; or the server could not run.
    Failed = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The end of every `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  all is well
    1  some items failed
    2  wrong usage, or an item that is not one
    3  no server, or one that takes no calls now
    4  the call was refused or failed as a whole; or the server could not run
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&CallError> for Exit {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::ItemFailed(_) => Self::ItemsFailed,
            CallError::Encode { .. } | CallError::EncodeCommon { .. } | CallError::InvalidArgument { .. } => {
                Self::BadInput
            }
            CallError::QueueFull { .. } | CallError::Unavailable { .. } | CallError::ConnectionLost { .. } => {
                Self::Unavailable
            }
            _ => Self::Failed,
        }
    }
}

impl From<&ConnectError> for Exit {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::InvalidAddress { .. } => Self::BadInput,
            _ => Self::Unavailable,
        }
    }
}

/// An error that ends the program: what to say, and with which code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(Exit::from(&error), error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(Exit::from(&error), error)
    }
}

impl Failure {
    /// Tells the user, and returns the code.
    pub(crate) fn report(self) -> Exit {
        let Self { exit, error } = self;
        if exit == Exit::Ok {
            return exit;
        }
        match error.downcast_ref::<CallError>() {
            Some(CallError::ItemFailed(item)) => print_item_error(item),
            _ => print_stderr(&format!("procpool: {error}\n")),
        }
        if let Some(hint) = error.downcast_ref::<CallError>().and_then(hint) {
            print_stderr(&format!("procpool: {hint}\n"));
        }
        exit
    }
}

/// What to do about an error, where the error does not say.
fn hint(error: &CallError) -> Option<String> {
    match error {
        CallError::QueueFull { retry_after: Some(delay), .. }
        | CallError::Unavailable { retry_after: Some(delay), .. } => {
            Some(format!("nothing has started; it may be worth trying again in {delay:?}"))
        }
        CallError::Encode { .. } | CallError::EncodeCommon { .. } => {
            Some("--json keeps integers beyond 2^53 exact".to_owned())
        }
        _ => None,
    }
}
