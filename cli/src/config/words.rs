//! Settings that are one of a few words.

use clap::ValueEnum;
use procpool_server::Operators;

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Which calls have a line in the log.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum LogCalls {
    None,
    #[default]
    Failed,
    All,
}

/// Who may look at the pools and change them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OperatorsArg {
    #[default]
    Local,
    Anyone,
    Nobody,
}

impl From<OperatorsArg> for Operators {
    fn from(arg: OperatorsArg) -> Self {
        match arg {
            OperatorsArg::Local => Self::Local,
            OperatorsArg::Anyone => Self::Anyone,
            OperatorsArg::Nobody => Self::Nobody,
        }
    }
}
