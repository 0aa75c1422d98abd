mod pages;

use super::*;

fn run(args: &[&str], env: Option<&str>) -> Result<Config, String> {
    let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
    match parse(&args, env.map(Into::into), true) {
        Ok(Command::Run(config) | Command::Check(config)) => Ok(*config),
        Ok(Command::Print(text)) => Err(text),
        Ok(Command::List(..)) => Err("a listing".into()),
        Ok(Command::Full(what)) => Err(what.into()),
        Err(error) => {
            assert_eq!(error.exit_code(), 2);
            Err(error.to_string())
        }
    }
}

#[test]
fn the_originals_flags() {
    let c = run(
        &[
            "--pid",
            "7",
            "--src-ip=10.0.0.1",
            "--dst-ip",
            "[2001:db8::1]",
            "--src-port=1",
            "--dst-port",
            "443",
            "--active-only",
            "--log-file",
            "/tmp/a=b",
        ],
        None,
    )
    .expect("valid");
    assert_eq!(
        c.filter.expr.text(),
        "pid 7 and src net 10.0.0.1 and dst net 2001:db8::1 and src port 1 and dst port 443 \
         and to established"
    );
    assert_eq!(c.log, LogChoice::Path("/tmp/a=b".into()));
    let mapped = run(&["--src-ip", "::ffff:10.0.0.1"], None).expect("valid");
    assert_eq!(mapped.filter.expr.text(), "src net 10.0.0.1");
}

#[test]
fn the_log_is_chosen_by_flag_then_environment() {
    let path = |p: &str| LogChoice::Path(p.into());
    let log = |args: &[&str], env| run(args, env).expect("valid").log;
    assert_eq!(log(&[], None), LogChoice::Default);
    assert_eq!(log(&[], Some("")), LogChoice::Default);
    assert_eq!(log(&[], Some("/e")), path("/e"));
    assert_eq!(log(&["--log-file", "/f"], Some("/e")), path("/f"));
    assert_eq!(log(&["--no-log"], Some("/e")), LogChoice::Off);
    assert!(run(&["--no-log", "--log-file", "/f"], None).is_err());
}

#[test]
fn values_are_checked() {
    for (flag, value) in [
        ("--pid", "x"),
        ("--pid", "-1"),
        ("--src-ip", "10.0.0"),
        ("--src-port", "65536"),
        ("--duration", "0"),
        ("--interval", "0"),
        ("--duration", "nan"),
        ("--duration", "1e30"),
        ("--duration", "."),
        ("--duration", "0.0000000001"),
        ("--count", "0"),
        ("--buffer", "0"),
        ("--buffer", "2G"),
        ("--log-max-size", "0"),
        ("--log-max-size", "1T"),
        ("--log-max-size", "K"),
        ("--log-max-size", "18446744073709551615K"),
        ("--buffer", "4X"),
        ("--buffer", "99999999999999999999"),
        ("--format", "xml"),
        ("--history", "0"),
        ("--connections-max", "0"),
        ("--transport", "ftrace"),
        ("--sandbox", "loose"),
        ("--nonsense", "1"),
    ] {
        let message = run(&[flag, value], None).expect_err(flag);
        assert!(
            message.contains(flag) && !message.contains('\n'),
            "{message}"
        );
    }
    assert!(run(&["--pid"], None).is_err());
    assert!(run(&["word"], None).is_err());
    assert_eq!(
        run(&["--buffer", "256K"], None).expect("valid").buffer,
        Some(256 << 10)
    );
    let often = run(&["--interval", "0.5"], None).expect("valid").interval;
    assert_eq!(often, Some(Duration::from_millis(500)));
    let half = run(&["--duration", "0.5"], None).expect("valid").duration;
    assert_eq!(half, Some(Duration::from_millis(500)));
}

#[test]
fn help_and_version_are_printed() {
    let help = run(&["--help"], None).expect_err("text");
    assert!(help.contains("--src-port") && help.contains("Exit codes"));
    let version = run(&["--version"], None).expect_err("text");
    assert_eq!(
        version,
        concat!("socket-snoop ", env!("SOCKET_SNOOP_VERSION"), "\n")
    );
}

#[test]
fn free_arguments_are_the_filter() {
    let text = |args: &[&str]| run(args, None).map(|config| config.filter.expr.text());
    let wanted = Ok("port 443 and not net 10.0.0.0/8".into());
    assert_eq!(text(&["port 443 and not net 10.0.0.0/8"]), wanted);
    let words = "--no-log port 443 and not net 10.0.0.0/8 --count 7";
    assert_eq!(text(&words.split(' ').collect::<Vec<_>>()), wanted);
    assert_eq!(
        text(&["--pid", "7", "port 80 or 443"]),
        Ok("pid 7 and port { 80, 443 }".into())
    );
    assert_eq!(text(&[]), Ok("tcp".into()));
    // Both are counted.
    let twice = ["-dd", "port 80"].map(String::from);
    let Ok(Command::List(_, listing)) = parse(&twice, None, true) else {
        panic!("a listing");
    };
    assert_eq!(listing.print, 2);
    let shown = text(&["prot", "80"]).expect_err("a mistake");
    assert_eq!(
        shown,
        "filter: unknown word 'prot'; did you mean 'port'?\n  prot 80\n  ^^^^\n  \
         see socket-snoop --help filter"
    );
    assert!(text(&["cause refused and state established"]).is_err());
    let help = run(&["--help", "filter"], None).expect_err("text");
    assert!(help.contains("dst port 443"), "{help}");
}

#[test]
fn lifecycles_are_so_many_or_all() {
    let of = |args: &[&str]| run(args, None).map(|c| c.shape.lifecycles);
    assert_eq!(of(&[]), Ok(Some(50)));
    assert_eq!(of(&["--lifecycles", "7"]), Ok(Some(7)));
    assert_eq!(of(&["--lifecycles", "all"]), Ok(None));
    assert!(of(&["--lifecycles", "many"]).is_err());
}

#[test]
fn what_was_recorded_is_read_by_flags_that_make_sense_for_it() {
    let files = run(&["-r", "a", "--read=b", "pid", "7"], Some("/var/log/x")).expect("files");
    assert_eq!(files.read, ["a", "b"]);
    assert_eq!(files.log, LogChoice::Off);
    let logged = run(&["-r", "a", "--log-file", "b"], None).expect("a log");
    assert_eq!(logged.log, LogChoice::Path("b".into()));
    for odd in [
        "--duration=1",
        "--interval=1",
        "--check",
        "-d",
        "--no-snapshot",
    ] {
        let said = run(&["-r", "a", odd], None).unwrap_err();
        assert!(said.contains("for what happens now"), "{said}");
    }
    assert!(run(&["-r", "a", "--", "true"], None).is_err());
}
