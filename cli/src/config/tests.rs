//! How the sources are merged and what is said of mistakes; and that the documentation has every setting.

use std::ffi::OsString;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use procpool_pool::supervisor::{DEFAULT_PASSED_VARIABLES, LimitedResource, MemoryLimits};

use super::setting::Setting;
use super::settings::{POOL, SERVER};
use super::*;
use crate::args;

/// Merges a file, variables and the arguments of `procpool serve`.
fn merged(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<Config, String> {
    let file = super::file::parse("p.toml", file).map_err(|errors| errors.join("\n"))?;
    let environment: Vec<(OsString, OsString)> =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let (variables, warnings) = super::variables::layers(&environment).map_err(|errors| errors.join("\n"))?;
    let line = ["procpool", "serve"].iter().chain(arguments);
    let parsed = args::CommandLine::try_parse_from(line).map_err(|error| error.to_string())?;
    let args::Command::Serve(serve) = parsed.command else { panic!("serve was asked for") };
    let merged = merge(&file, &variables, &serve.settings.0, &serve.command);
    merged.map(|config| Config { warnings, ..config }).map_err(|errors| errors.0.join("\n"))
}

fn complaint(file: &str) -> String {
    merged(file, &[], &[]).unwrap_err()
}

fn drain_timeout(config: &Config) -> Duration {
    config.server.settings.config.drain_timeout
}

#[test]
fn flags_win_over_variables_over_the_file_over_the_defaults() {
    let file = "drain_timeout = \"1s\"\n[pools.images]\nprocesses = 1\n";
    let variables = [("PROCPOOL_DRAIN_TIMEOUT", "2s"), ("PROCPOOL_PROCESSES", "2")];
    let flags = ["--drain-timeout", "3s", "--processes", "3"];
    let of = |file: &str, variables: &[(&str, &str)], flags: &[&str]| {
        let config = merged(file, variables, flags).unwrap();
        (drain_timeout(&config).as_secs(), config.pools[0].1.settings.config.processes.get())
    };
    let cpus = available_cpus().get();
    assert_eq!(of("", &[], &[]), (30, cpus));
    assert_eq!(of(file, &[], &[]), (1, 1));
    assert_eq!(of(file, &variables, &[]), (2, 2));
    assert_eq!(of(file, &variables, &flags), (3, 3));
    assert_eq!(of(file, &[("PROCPOOL_DRAIN_TIMEOUT", "")], &[]), (1, 1), "an empty variable is none");
}

#[test]
fn what_wins_can_turn_off_what_is_on() {
    let file =
        "max_connection_age = \"1h\"\n[pools.p]\nitem_timeout = \"5s\"\nmax_items_per_worker = 9\ncommand = [\"a\"]";
    let flags = ["--max-connection-age", "0", "--item-timeout", "0s", "--max-items-per-worker", "0", "--", "b", "c"];
    let config = merged(file, &[], &flags).unwrap();
    assert_eq!(config.server.settings.config.max_connection_age, None);
    let pool = &config.pools[0].1.settings;
    assert_eq!((pool.config.item_timeout, pool.config.max_items_per_worker), (None, None));
    assert_eq!(pool.command, ["b", "c"]);
}

#[test]
fn without_pools_there_is_one_from_flags() {
    let config = merged("", &[], &["--processes", "2", "--", "python", "-m", "w"]).unwrap();
    let [(name, pool)] = &config.pools[..] else { panic!("one pool") };
    assert_eq!(name, DEFAULT_POOL);
    assert_eq!(pool.settings.command, ["python", "-m", "w"]);
    assert_eq!(merged("[pools]", &[], &[]).unwrap().pools.len(), 1);
}

#[test]
fn everything_can_be_said_in_a_file() {
    let file = r#"
        listen = ["127.0.0.1:0", "unix:/run/p.sock"]
        max_message_bytes = 100000
        log_format = "json"
        [pools.images]
        command = ["python", "a b.py"]
        max_queued_bytes = "1MiB"
        pass_environment = ["CUDA_*"]
        environment = { MODEL = "large" }
        working_directory = "/srv"
        oom_score_raise = 0
        max_worker_memory = "6GiB"
        worker_memory_limit = 8589934593
        rlimits = { as = "32GiB", nofile = "256" }
        [pools.text]
        environment.TOKEN = "secret"
        "#;
    let config = merged(file, &[], &[]).unwrap();
    assert_eq!(config.server.settings.config.listen.len(), 2);
    assert_eq!(config.server.settings.config.max_message_bytes, 100_000);
    let [(images_name, images), (text_name, text)] = &config.pools[..] else { panic!("two pools") };
    assert_eq!((images_name.as_str(), text_name.as_str()), ("images", "text"));
    assert_eq!(images.settings.config.max_queued_bytes, 1 << 20);
    let environment = vec![("SECRET".into(), "x".into())];
    let spawn = images.settings.spawn_config(environment, 100 << 20).unwrap();
    assert_eq!((spawn.program, spawn.args), (OsString::from("python"), vec![OsString::from("a b.py")]));
    assert_eq!(spawn.working_directory.unwrap(), Path::new("/srv"));
    assert_eq!(spawn.oom_score_raise, 0);
    assert_eq!(spawn.memory, MemoryLimits { soft_bytes: Some(6 << 30), hard_bytes: Some((8 << 30) + 1) });
    assert_eq!(spawn.rlimits, [(LimitedResource::AddressSpace, 32 << 30), (LimitedResource::OpenFiles, 256)]);
    assert_eq!(text.settings.memory, MemoryLimits::default());
    assert_eq!(spawn.variables, [("MODEL".into(), "large".into())]);
    assert!(spawn.passed_variables.iter().any(|name| name == "CUDA_*"));
    assert!(spawn.passed_variables.iter().any(|name| name == "PATH"));
    assert_eq!(spawn.max_frame_bytes, 232 << 20, "two messages and what is between");
    assert_eq!(text.settings.environment, [("TOKEN".to_owned(), "secret".to_owned())]);
    assert_eq!(text.settings.spawn_config(Vec::new(), 1 << 20).unwrap().args, ["worker"], "the built-in one");
}

#[test]
fn mistakes_in_a_file_are_named_with_their_line() {
    insta::assert_snapshot!(complaint("\n\n[pools.images]\nproceses = 2\n"), @r#"unknown key "proceses" in [pools.images] (p.toml:4); did you mean "processes"?"#);
    insta::assert_snapshot!(complaint("lisen = []"), @r#"unknown key "lisen" (p.toml:1); did you mean "listen"?"#);
    insta::assert_snapshot!(complaint("[pool.images]"), @r#"unknown key "pool" (p.toml:1); did you mean "pools"?"#);
    insta::assert_snapshot!(complaint("colour = 1"), @r#"unknown key "colour" (p.toml:1)"#);
    insta::assert_snapshot!(complaint("processes = 1"), @r#""processes" is a setting of a pool: put it below [pools.NAME] (p.toml:1)"#);
    insta::assert_snapshot!(complaint("[pools]\nprocesses = 1"), @r#""processes" is a setting of a pool: put it below [pools.NAME] (p.toml:2)"#);
    insta::assert_snapshot!(complaint("[pools.a]\ndrain_timeout = \"1s\""), @r#""drain_timeout" concerns the whole server: put it before the first [pools.NAME], not in [pools.a] (p.toml:2)"#);
    insta::assert_snapshot!(complaint("[pools.\"a b\"]"), @r#""a b" is no name of a pool: at most 63 letters, digits, - and _ (p.toml:1)"#);
    insta::assert_snapshot!(complaint("[pools]\nimages = 1"), @r#"the pool "images" must be a table, [pools.images] (p.toml:2)"#);
    insta::assert_snapshot!(complaint("pools = 1"), @r#""pools" must be tables, [pools.NAME] (p.toml:1)"#);
    insta::assert_snapshot!(complaint("drain_timeout = 30"), @r#"drain_timeout (p.toml:1): 30 has no unit: a duration is text with a number and a unit (us, ms, s, min, h or d), such as "30s""#);
    insta::assert_snapshot!(complaint("drain_timeout = \"30\""), @"drain_timeout (p.toml:1): a duration is a number and a unit (us, ms, s, min, h or d), such as 30s or 500ms");
    insta::assert_snapshot!(complaint("keepalive_interval = \"0s\""), @"keepalive_interval (p.toml:1): must be more than 0");
    insta::assert_snapshot!(complaint("max_message_bytes = \"64MB\""), @"max_message_bytes (p.toml:1): a size is a number of bytes, or a number and KiB, MiB or GiB, such as 64MiB");
    insta::assert_snapshot!(complaint("\nmax_message_bytes = 1"), @"max_message_bytes (p.toml:2): must be from 64 KiB to 4095 MiB");
    insta::assert_snapshot!(complaint("max_message_bytes = \"300MiB\""), @"max_request_bytes_in_flight: must be at least max_message_bytes");
    insta::assert_snapshot!(complaint("log_level = \"loud\""), @r#"log_level (p.toml:1): "loud" is none of error, warn, info, debug, trace"#);
    insta::assert_snapshot!(complaint("listen = [1]"), @"listen (p.toml:1): must be a list of texts, not an array of other things than texts");
    insta::assert_snapshot!(complaint("[pools.a]\nprocesses = 0"), @"processes in [pools.a] (p.toml:2): must be more than 0");
    insta::assert_snapshot!(complaint("[pools.a]\nprocesses = 5000"), @"processes in [pools.a] (p.toml:2): 5000 is too many: at most 4096");
    insta::assert_snapshot!(complaint("[pools.a]\ncommand = \"python w.py\""), @r#"command in [pools.a] (p.toml:2): must be a list of texts, such as ["python", "worker.py"]"#);
    insta::assert_snapshot!(complaint("[pools.a]\nworking_directory = \"\""), @"working_directory in [pools.a] (p.toml:2): must not be empty");
    insta::assert_snapshot!(complaint("[pools.a]\nenvironment = { A = 1 }"), @r#"environment in [pools.a] (p.toml:2): must be a table of texts, such as { MODEL = "large" }"#);
    insta::assert_snapshot!(complaint("[pools.a]\nrlimits = { as = 1 }"), @r#"rlimits in [pools.a] (p.toml:2): must be a table of texts, such as { as = "2GiB", nofile = "1024" }"#);
    insta::assert_snapshot!(complaint("[pools.a]\nmax_worker_memory = \"2GiB\"\nworker_memory_limit = \"1GiB\""), @"worker_memory_limit in [pools.a] (p.toml:3): must be at least max_worker_memory");
    insta::assert_snapshot!(complaint("listen = [\n"), @"unclosed array, expected `]` (p.toml:1)");
    insta::assert_snapshot!(complaint("log_level = \"info\"\nlog_level = \"info\"\n"), @"duplicate key (p.toml:2)");
}

#[test]
fn all_mistakes_are_named_at_once() {
    let complaint = complaint("lisen = []\n[pools.a]\nproceses = 1\n[pools.b]\nidle_timout = \"1s\"\n");
    assert_eq!(complaint.lines().count(), 3, "{complaint}");
    let complaint = merged("drain_timeout = 1", &[("PROCPOOL_IDLE_TIMEOUT", "x")], &[]).unwrap_err();
    assert_eq!(complaint.lines().count(), 2, "{complaint}");
}

#[test]
fn what_is_overridden_must_be_right_too() {
    assert!(merged("drain_timeout = 1", &[], &["--drain-timeout", "1s"]).is_err());
}

#[test]
fn mistakes_in_variables_are_named() {
    let complaint = merged("", &[("PROCPOOL_ITEM_TIMEOUT", "30")], &[]).unwrap_err();
    assert!(complaint.starts_with("PROCPOOL_ITEM_TIMEOUT: a duration is a number and a unit"), "{complaint}");
    let variables = [
        ("PROCPOOL_PROCESES", "1"),
        // Kubernetes sets these for a service that is called procpool.
        ("PROCPOOL_PORT", "tcp://10.0.0.1:50051"),
        ("PROCPOOL_SERVICE_HOST", "10.0.0.1"),
        ("PROCPOOL_SERVER", "http://127.0.0.1:1"),
        ("PROCPOOL_WORKER_ID", "1"),
        ("PROCPOOL_CONFIG", "p.toml"),
    ];
    let config = merged("", &variables, &[]).unwrap();
    assert_eq!(config.warnings, ["PROCPOOL_PROCESES is no setting; did you mean PROCPOOL_PROCESSES?"]);
}

#[test]
fn with_several_pools_flags_and_variables_of_a_pool_are_refused() {
    let file = "[pools.images]\n[pools.text]\n";
    let complaint = merged(file, &[("PROCPOOL_PROCESSES", "2")], &["--item-timeout", "1s", "--", "w"]).unwrap_err();
    insta::assert_snapshot!(complaint, @r#"
    PROCPOOL_PROCESSES concerns one pool, but the configuration file has several: put "processes" into [pools.images] or [pools.text]
    --item-timeout concerns one pool, but the configuration file has several: put "item_timeout" into [pools.images] or [pools.text]
    the command behind -- concerns one pool, but the configuration file has several: put "command" into [pools.images] or [pools.text]
    "#);
    assert!(merged(file, &[("PROCPOOL_LISTEN", "127.0.0.1:1,unix:/p.sock")], &["--log-level", "warn"]).is_ok());
}

#[test]
fn what_is_printed_is_the_same_configuration() {
    let file = "drain_timeout = \"1500ms\"\nmax_message_bytes = 70001\n[pools.images]\nprocesses = 2\nworker_memory_limit = \"9GiB\"\nrlimits = { as = \"1GiB\" }\ncommand = ['a \"b\"', \"c\\n\"]\nenvironment = { TOKEN = \"hunter2\", \"x.y\" = \"1\" }\n[pools.text]\nprocesses = 1\n";
    let printed = as_toml(&merged(file, &[], &["--listen", "unix:/run/p.sock"]).unwrap());
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("drain_timeout = \"1500ms\"  # p.toml:1\n"), "{printed}");
    assert!(printed.contains("listen = [\"unix:/run/p.sock\"]  # --listen\n"), "{printed}");
    assert!(
        printed.contains("environment = { TOKEN = \"<redacted>\", \"x.y\" = \"<redacted>\" }  # p.toml:8\n"),
        "{printed}"
    );
    let again = merged(&printed, &[], &[]).unwrap();
    let without_origins = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(without_origins(&as_toml(&again)), without_origins(&printed));
    assert_eq!(again.pools[0].1.settings.command, ["a \"b\"", "c\n"]);
}

/// Returns what docs/configuration.md has to say of some settings.
fn table<T: Clone + Default>(settings: &[Setting<T>]) -> String {
    let rows = settings.iter().map(|setting| {
        let (unit, default, zero) = (setting.names.unit, setting.default_text(), setting.zero_text());
        format!("| `{}` | {unit} | {default} | {zero} | {} |\n", setting.key, setting.about)
    });
    let head = "| setting | unit | default | 0 | what it is |\n| --- | --- | --- | --- | --- |\n";
    head.to_owned() + &rows.collect::<String>()
}

#[test]
fn the_documentation_and_the_help_have_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    for table in [table(&SERVER), table(&POOL)] {
        let whole = format!("\n\n{table}\n");
        assert!(documentation.contains(&whole), "{path} must have this table:\n\n{table}");
    }
    for variable in DEFAULT_PASSED_VARIABLES {
        assert!(documentation.contains(&format!("`{variable}`")), "{path} must name {variable}");
    }
    let mut command = args::CommandLine::command();
    let help = command.find_subcommand_mut("serve").unwrap().render_help().to_string();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = SERVER.iter().map(|setting| (setting.flag(), super::flags::help(setting)));
    let pool = POOL.iter().filter(|setting| setting.key != "command");
    for (flag, line) in lines.chain(pool.map(|setting| (setting.flag(), super::flags::help(setting)))) {
        let is_there = [" <", "[=<"].iter().any(|value| help.contains(&format!("--{flag}{value}")));
        assert!(is_there, "--{flag}");
        assert!(help.contains(&line), "{line}");
    }
}

#[test]
fn keys_are_distinct() {
    let mut keys: Vec<&str> = SERVER.iter().map(|setting| setting.key).collect();
    keys.extend(POOL.iter().map(|setting| setting.key));
    keys.push("pools");
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
}
