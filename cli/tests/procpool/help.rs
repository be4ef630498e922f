//! What `--help` says.

use crate::support::run;

fn help_of(command: &[&str]) -> String {
    let mut args = command.to_vec();
    args.push("--help");
    run(&args, "").expect(0).stdout
}

#[test]
fn help() {
    insta::assert_snapshot!("help", help_of(&[]));
    let commands = ["serve", "map", "starmap", "imap", "apply", "functions", "health", "worker", "demo"];
    for command in ["exec", "check"] {
        insta::assert_snapshot!(format!("help_worker_{command}"), help_of(&["worker", command]));
    }
    for command in commands {
        insta::assert_snapshot!(format!("help_{command}"), help_of(&[command]));
    }
}

#[test]
fn every_command_is_in_the_help() {
    let help = help_of(&[]);
    for command in ["serve", "map", "starmap", "imap", "apply", "functions", "health", "worker", "demo"] {
        assert!(help.contains(&format!("\n  {command}")), "{command}");
    }
}
