//! The settings as flags of the command line.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::kind::Form;
use super::layer::{Layers, Origin};
use super::setting::Setting;
use super::settings::{POOL, SERVER};
use super::value::Value;

/// The settings that were given as flags.
#[derive(Debug, Default)]
pub(crate) struct SettingFlags(pub(super) Layers);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let command = command.args(SERVER.iter().map(|setting| argument(setting).help_heading("Server")));
        // The command stands behind the `--`.
        let pool = POOL.iter().filter(|setting| setting.key != "command");
        command.args(pool.map(|setting| argument(setting).help_heading("Pool")))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let Layers { server, pool } = &mut self.0;
        server.extend(SERVER.iter().filter_map(|setting| given(setting, matches)));
        pool.extend(POOL.iter().filter_map(|setting| given(setting, matches)));
        Ok(())
    }
}

fn argument<T: Clone + Default>(setting: &'static Setting<T>) -> Arg {
    let action = if setting.names.form == Form::List { ArgAction::Append } else { ArgAction::Set };
    let argument = Arg::new(setting.key);
    let argument = if setting.names.form == Form::Switch {
        // What follows the flag is the next argument.
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    };
    argument.long(setting.flag()).value_name(setting.names.value).action(action).help(help(setting)).value_parser(
        move |text: &str| {
            setting.set(&mut T::default(), &value(setting, vec![text.to_owned()]))?;
            Ok::<String, String>(text.to_owned())
        },
    )
}

/// Returns the line of `--help`.
pub(super) fn help<T: Clone + Default>(setting: &Setting<T>) -> String {
    let (about, default) = (setting.about, setting.default_text());
    match setting.zero_text() {
        "" => format!("{about} [default: {default}]"),
        zero => format!("{about} [unit: {}] [default: {default}] [0: {zero}]", setting.names.unit),
    }
}

fn given<T: Clone + Default>(
    setting: &'static Setting<T>,
    matches: &ArgMatches,
) -> Option<(&'static str, (Value, Origin))> {
    let texts = matches.try_get_many::<String>(setting.key).ok()??;
    Some((setting.key, (value(setting, texts.cloned().collect()), Origin::Flag(setting.flag()))))
}

fn value<T: Clone + Default>(setting: &Setting<T>, mut texts: Vec<String>) -> Value {
    if setting.names.form == Form::List { Value::List(texts) } else { Value::Text(texts.pop().unwrap_or_default()) }
}
