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
            _ => print_stderr(&format!("procpool: {}\n", with_causes(&error))),
        }
        if let Some(hint) = error.downcast_ref::<CallError>().and_then(hint) {
            print_stderr(&format!("procpool: {hint}\n"));
        }
        exit
    }
}

/// Returns what an error says, and its causes unless it names the first of them itself.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    if text.contains(&error.root_cause().to_string()) {
        return text;
    }
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.extend([": ", &cause]);
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context as _, anyhow};

    use super::with_causes;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen: {source}")]
    struct Bind {
        source: io::Error,
    }

    #[test]
    fn causes_are_told_once() {
        let hidden = Err::<(), _>(anyhow!("no such file")).context("cannot read /proc").unwrap_err();
        assert_eq!(with_causes(&hidden), "cannot read /proc: no such file");
        let between = anyhow!("no such file").context("transport error").context("cannot connect: no such file");
        assert_eq!(with_causes(&between), "cannot connect: no such file");
        let told = Bind { source: io::Error::other("address in use") };
        assert_eq!(with_causes(&told.into()), "cannot listen: address in use");
    }
}
