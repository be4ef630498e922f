//! Tests of `kinds`.

use procpool_server::ListenAddress;

use super::address::{parse_listen_address, parse_tcp_address};
use super::*;

const COUNT: Count = Count("things", u32::MAX);

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn durations_need_a_unit() {
    assert_eq!(Time.read(&text("30s")), Ok(Duration::from_secs(30)));
    assert_eq!(Time.read(&text("0")), Ok(Duration::ZERO));
    assert_eq!(Time.read(&Value::Integer(0)), Ok(Duration::ZERO));
    assert_eq!(Time.read(&text("10000d")), Err("is out of range: at most 3650d".to_owned()));
    let problem = Time.read(&Value::Integer(30)).unwrap_err();
    assert!(problem.starts_with("30 has no unit: ") && problem.ends_with("\"30s\""), "{problem}");
    assert!(Time.read(&text("30")).unwrap_err().contains("a number and a unit"));
    for duration in ["0s", "250us", "1500ms", "90s", "2min", "36h", "2d", "0.500us"] {
        assert_eq!(show_duration(Time.read(&text(duration)).unwrap()), duration);
    }
}

#[test]
fn sizes_are_bytes_or_have_a_binary_unit() {
    assert_eq!(MessageSize.read(&text("64MiB")), Ok(64 << 20));
    assert_eq!(MessageSize.read(&text("64 KiB")), Ok(64 << 10));
    assert_eq!(MessageSize.read(&text("1000")), Ok(1000));
    assert_eq!(MessageSize.read(&Value::Integer(1000)), Ok(1000));
    for wrong in
        ["64MB", "64M", "-1", "", "MiB", "1.5MiB", "4GiB", "99999999999999999999GiB", "18446744073709551615KiB"]
    {
        assert!(MessageSize.read(&text(wrong)).is_err(), "{wrong:?}");
    }
    assert!(MessageSize.read(&Value::Integer(-1)).is_err());
    for size in ["0", "1000", "64KiB", "3MiB", "1GiB", "1025KiB"] {
        assert_eq!(show_bytes(MessageSize.read(&text(size)).unwrap().into()), size);
    }
}

#[test]
fn limits_of_the_kernel_have_its_names() {
    let expected = Ok(vec![(LimitedResource::AddressSpace, 2 << 30), (LimitedResource::OpenFiles, 1024)]);
    assert_eq!(Rlimits.read(&text("as=2GiB, nofile=1024")), expected);
    let Some(Shown::Table(table)) = Rlimits.show(expected.as_ref().unwrap()) else { panic!("a table") };
    assert_eq!(Rlimits.read(&Value::Table(table)), expected);
    assert!(Rlimits.read(&text("nproc=1")).unwrap_err().contains("only as, core, data, fsize, nofile"));
    assert!(Rlimits.read(&text("as")).is_err());
    assert!(Rlimits.read(&text("as=lots")).unwrap_err().starts_with("as: a size is"));
    assert!(Rlimits.read(&Value::Other("a table of other things than texts")).is_err());
    assert_eq!(MemorySize.read(&text("64GiB")), Ok(64 << 30));
}

#[test]
fn counts_and_lists() {
    assert_eq!(COUNT.read(&text("7")), Ok(7));
    assert_eq!(COUNT.read(&Value::Integer(7)), Ok(7));
    assert!(COUNT.read(&Value::Integer(-7)).is_err());
    assert!(COUNT.read(&text("7.5")).is_err());
    assert_eq!(text("a, b").as_list(), Ok(vec!["a".to_owned(), "b".to_owned()]));
    assert!(Value::Integer(1).as_list().is_err());
    let variables = Variables.read(&Value::List(vec!["A=1=2".to_owned(), "B=".to_owned()])).unwrap();
    assert_eq!(variables, [("A".to_owned(), "1=2".to_owned()), ("B".to_owned(), String::new())]);
    assert!(Variables.read(&Value::List(vec!["A".to_owned()])).is_err());
    assert!(Variables.read(&Value::Table(vec![("A=B".to_owned(), String::new())])).is_err());
    assert!(Variables.read(&text("A=1")).is_err());
}

#[test]
fn listen_addresses() {
    let tcp = |address: &str| Some(ListenAddress::Tcp(address.parse().unwrap()));
    for (text, expected) in [
        ("127.0.0.1:50051", tcp("127.0.0.1:50051")),
        ("localhost:0", tcp("127.0.0.1:0")),
        ("http://127.0.0.1:1", tcp("127.0.0.1:1")),
        ("[::1]:50051", tcp("[::1]:50051")),
        ("unix:/run/p.sock", Some(ListenAddress::Unix("/run/p.sock".into()))),
        ("unix:///run/p.sock", Some(ListenAddress::Unix("/run/p.sock".into()))),
        ("unix:", None),
        ("50051", None),
        ("example.org:50051", None),
    ] {
        assert_eq!(parse_listen_address(text).ok(), expected, "{text:?}");
        // The admin port takes the same, but for paths.
        if !text.starts_with("unix:") {
            assert_eq!(parse_tcp_address(text).map(ListenAddress::Tcp), expected, "{text:?}");
        }
    }
}

#[test]
fn a_switch_is_on_or_off() {
    for (value, expected) in [
        (Value::Boolean(true), true),
        (Value::Boolean(false), false),
        (Value::Text("true".to_owned()), true),
        (Value::Text("1".to_owned()), true),
        (Value::Text("false".to_owned()), false),
        (Value::Text("0".to_owned()), false),
    ] {
        assert_eq!(Switch.read(&value), Ok(expected), "{value:?}");
    }
    assert_eq!(Switch.read(&Value::Text("yes".to_owned())).unwrap_err(), r#""yes" is neither true nor false"#);
    assert!(Switch.read(&Value::Integer(1)).is_err());
    assert!(Time.read(&Value::Boolean(true)).unwrap_err().contains("a boolean"));
}
