//! What `--help` says.

use crate::support::run;

const COMMANDS: [&str; 13] = [
    "serve",
    "map",
    "starmap",
    "imap",
    "apply",
    "functions",
    "health",
    "workers",
    "resize",
    "restart",
    "drain",
    "worker",
    "demo",
];

fn help_of(command: &[&str]) -> String {
    let mut args = command.to_vec();
    args.push("--help");
    run(&args, "").expect(0).stdout
}

#[test]
fn help() {
    insta::assert_snapshot!("help", help_of(&[]));

    for command in ["exec", "check"] {
        insta::assert_snapshot!(format!("help_worker_{command}"), help_of(&["worker", command]));
    }
    for command in COMMANDS {
        insta::assert_snapshot!(format!("help_{command}"), help_of(&[command]));
    }
}

#[test]
fn every_command_is_in_the_help() {
    let help = help_of(&[]);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command}")), "{command}");
    }
}
