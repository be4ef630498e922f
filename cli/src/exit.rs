//! Exit codes: what they are, and which error has which.

use std::process::ExitCode;

use procpool_client::{CallError, ConnectError, ItemError};

use crate::config::ConfigErrors;
use crate::print::{OutputError, print_item_error, print_message};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Success.
    Ok = 0,
    /// Some items failed.
    ItemsFailed = 1,
    /// Wrong usage, or an item that is not one.
    BadInput = 2,
    /// Nothing has started, and the same command may succeed later: no server, or one that takes no calls now.
    Unavailable = 3,
    /// The call was refused for good or failed as a whole, and some items may have been executed; or the server could
    /// not run.
    Failed = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The end of every `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  all is well
    1  some items failed
    2  wrong usage, or an invalid item
    3  nothing has started, try again: no server, or one that takes no calls now
    4  the call was refused for good or interrupted, items may have run; or the server could not run
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
            error if error.is_safe_to_retry() => Self::Unavailable,
            _ => Self::Failed,
        }
    }
}

impl From<&ConnectError> for Exit {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::InvalidAddress { .. } => Self::BadInput,
            // A retry would fail as well.
            ConnectError::NotPermitted { .. } => Self::Failed,
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

/// The failure of the one item of a call, which needs no index.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub(crate) struct OnlyItem(pub(crate) Box<ItemError>);

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

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        let exit = match &error {
            OutputError::Closed => Exit::Ok,
            OutputError::Write(_) => Exit::Failed,
            OutputError::Open { .. } => Exit::BadInput,
        };
        Self::new(exit, error)
    }
}

impl Failure {
    /// Returns why a command that only asks has no answer. Nothing can have started.
    pub(crate) fn of_question(error: CallError) -> Self {
        let exit = match &error {
            CallError::Unavailable { .. } | CallError::ConnectionLost { .. } => Exit::Unavailable,
            error => Exit::from(error),
        };
        Self::new(exit, error)
    }

    /// Tells the user, and returns the code.
    pub(crate) fn report(self) -> Exit {
        let Self { exit, error } = self;
        if exit == Exit::Ok {
            return exit;
        }
        if let Some(ConfigErrors(errors)) = error.downcast_ref() {
            for error in errors {
                print_message(error);
            }
        } else if let Some(CallError::ItemFailed(item)) = error.downcast_ref() {
            print_item_error(&item.to_string(), item);
        } else if let Some(only) = error.downcast_ref::<OnlyItem>() {
            print_item_error(&only.to_string(), &only.0);
        } else {
            print_message(&in_words_of_commands(&with_causes(&error)));
        }
        if let Some(hint) = error.downcast_ref::<CallError>().and_then(|error| hint(error, exit)) {
            print_message(&hint);
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

/// Replaces the names of API methods in the server's advice by those of commands.
fn in_words_of_commands(message: &str) -> String {
    message
        .replace("ListFunctions tells which there are", "`procpool functions` lists those that there are")
        .replace("GetPool tells which there are", "`procpool jobs` lists those that there are")
        .replace("use IMapStream", "use `procpool imap`")
        .replace("send the items as a stream", "use `procpool imap`")
}

/// Returns what to do about an error that does not say it.
fn hint(error: &CallError, exit: Exit) -> Option<String> {
    match error {
        CallError::QueueFull { retry_after: Some(delay), .. }
        | CallError::Unavailable { retry_after: Some(delay), .. } => {
            Some(format!("nothing has started; it may be worth trying again in {delay:?}"))
        }
        CallError::Unavailable { .. } | CallError::ConnectionLost { .. } if exit == Exit::Failed => {
            Some("some items may have been executed".to_owned())
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
    use std::time::Duration;

    use anyhow::{Context as _, anyhow};
    use procpool_client::CallError;

    use super::{Exit, in_words_of_commands, with_causes};

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

    #[test]
    fn three_means_that_nothing_has_started_and_another_attempt_may_succeed() {
        let message = String::new;
        let queue_full = |retry_after| CallError::QueueFull { message: message(), retry_after };
        let unavailable = |retry_after| CallError::Unavailable { reason: message(), message: message(), retry_after };
        let lost = CallError::ConnectionLost { message: message(), source: "reset".into() };
        let later = Some(Duration::from_secs(1));
        for (error, exit) in [
            (queue_full(later), Exit::Unavailable),
            // More than the queue can ever hold, or refused in the middle of a stream.
            (queue_full(None), Exit::Failed),
            (unavailable(later), Exit::Unavailable),
            // The drain time-out ended a call.
            (unavailable(None), Exit::Failed),
            (lost, Exit::Failed),
            (CallError::MessageTooLarge { message: message() }, Exit::Failed),
        ] {
            assert_eq!(Exit::from(&error), exit, "{error:?}");
        }
    }

    #[test]
    fn advice_names_commands() {
        let message = "no worker registered a function \"x\"; ListFunctions tells which there are";
        assert!(in_words_of_commands(message).ends_with("; `procpool functions` lists those that there are"));
    }
}
