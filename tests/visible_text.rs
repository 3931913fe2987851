//! What others wrote never acts on a terminal: names with terminal escapes are shown as escapes everywhere.

use crate::support::{Cluster, Done, Running, Secured, json_lines, require, secured, shell, wait_until};

/// Clears the screen, hides what follows, reorders it, and begins a forged line.
const EVIL: &str = "x\u{1b}[2J\u{9b}8m\u{202e}\u{7f}\nkpipe: all is well";

fn assert_visible(done: &Done) {
    for text in [&done.stdout, &done.stderr] {
        let acts =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!text.contains(acts), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("kpipe: all is well")), "{text:?}");
    }
}

#[test]
fn group_and_client_names_are_escaped_in_tables_json_messages_and_logs() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("visible", 1);
    kafka.kpipe(&["produce", &topic], b"a\n");
    let read = ["consume", &topic, "-g", EVIL, "-o", "beginning", "-e", "--output", "none", "-vv"];
    assert_visible(&kafka.kpipe(&read, b""));
    for command in [&["groups", "list"][..], &["groups", "describe", EVIL], &["groups", "lag", EVIL]] {
        let table = kafka.try_kpipe(command, b"");
        assert_eq!(table.code, 0, "{command:?}: {}", table.stderr);
        assert!(table.stdout.contains("x\\x1b[2J\\u{9b}8m\\u{202e}\\x7f\\n"), "{command:?}: {}", table.stdout);
        assert_visible(&table);
        let json = kafka.try_kpipe(&[command, &["-J", "-vv"]].concat(), b"");
        assert_visible(&json);
        assert!(json_lines(&json.stdout).iter().any(|line| line["group"] == EVIL), "{}", json.stdout);
    }
    assert_visible(&kafka.try_kpipe(&["topics", "describe", EVIL], b""));
    assert_visible(&kafka.try_kpipe(&["groups", "describe", EVIL, "--log-format", "json", "-vvv"], b""));
}

#[test]
fn a_prompt_shows_what_it_asks_about() {
    require!(Script);
    let kafka = Cluster::start_local(1);
    // The name goes through the environment, because `script` runs the line in whatever $SHELL names.
    let line = format!("kpipe -b {} groups delete \\\"\\$NAME\\\"", kafka.bootstrap);
    let asked = shell(&format!("export NAME=$(printf 'a\\033[2J'); echo n | script -qec \"{line}\" /dev/null"));
    assert!(asked.stdout.contains("Delete group a\\x1b[2J"), "{:?}", asked.stdout);
    assert!(!asked.stdout.contains('\u{1b}'), "{:?}", asked.stdout);
    assert!(asked.stdout.contains("canceled; nothing was changed"), "{}", asked.stdout);
}

#[test]
fn records_do_not_act_on_a_terminal() {
    require!(Script);
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("shown", 1);
    let record = serde_json::json!({ "key": EVIL, "value": EVIL, "headers": [{ "key": EVIL, "value": EVIL }] });
    kafka.kpipe(&["produce", &topic, "--input", "json"], format!("{record}\n").as_bytes());
    for format in ["json", "value"] {
        let line = format!("kpipe -b {} consume {topic} -o beginning -e --output {format}", kafka.bootstrap);
        let shown = shell(&format!("script -qec '{line}' /dev/null </dev/null"));
        let text = shown.stdout.replace("\r\n", "\n");
        let acts =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(text.contains("[2J") && !text.contains(acts), "{format}: {text:?}");
        let piped = kafka.kpipe(&["consume", &topic, "-o", "beginning", "-e", "--output", format], b"");
        assert!(format == "json" || piped.stdout == format!("{EVIL}\n"), "a pipe gets the bytes: {piped:?}");
    }
}

#[test]
fn client_and_transactional_ids_are_escaped() {
    let kafka = Cluster::start_local(1);
    let topic = kafka.topic("ids", 1);
    kafka.kpipe(&["produce", &topic, "--transactional-id", EVIL], b"a\n");
    let client = format!("client.id={EVIL}");
    let member = Running::kpipe(&["-b", &kafka.bootstrap, "-X", &client, "consume", &topic, "-g", "g"]);
    wait_until("the member", || kafka.try_kpipe(&["groups", "describe", "g"], b"").stdout.contains("x\\x1b[2J"));
    for command in [
        &["groups", "describe", "g"][..],
        &["groups", "reset", "g", "--to", "end", "--topic", &topic, "--execute"],
        &["groups", "delete", "g", "--yes"],
        &["cluster", "transactions", "list"],
        &["cluster", "transactions", "describe", EVIL],
        &["topics", "describe", EVIL],
        &["topics", "delete", EVIL, "--yes"],
        &["produce", EVIL],
        &["consume", EVIL, "-e"],
        &["-X", &client, "topics", "list"],
        &["acls", "list", "--topic", EVIL],
        &["cluster", "users", "list", EVIL],
    ] {
        for flags in [&["-vvv"][..], &["-vvv", "--log-format", "json"]] {
            assert_visible(&kafka.try_kpipe(&[flags, command].concat(), b""));
        }
    }
    member.signal(libc::SIGTERM);
    assert_visible(&member.ended());
}

#[test]
fn names_in_what_failed_to_be_produced_are_escaped() {
    let kafka = Cluster::start_local(1);
    let record = serde_json::json!({ "topic": EVIL, "value": "x" });
    for flags in [&[][..], &["--receipts"], &["--on-error", "continue"]] {
        let produce = ["produce", "-", "--input", "json"];
        let done = kafka.try_kpipe(&[&produce, flags].concat(), format!("{record}\n").as_bytes());
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains("x\\x1b[2J"), "{}", done.stderr);
        assert_visible(&done);
    }
}

fn admin(secured: &Secured, args: &[&str]) -> Done {
    secured.kafka.try_kpipe(args, b"")
}

#[test]
fn acls_for_everyone_ask_and_principals_are_escaped() {
    require!(Kafka);
    for secured in secured() {
        let everyone = ["acls", "create", "--principal", "User:*", "--operation", "read", "--topic"];
        let asked = admin(secured, &[&everyone[..], &["*"]].concat());
        assert_eq!(asked.code, 2, "{}", asked.stderr);
        assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
        assert_eq!(admin(secured, &[&everyone[..], &["public"]].concat()).code, 0, "one topic may be public");
        let principal = format!("User:{EVIL}");
        let evil = ["--principal", &principal, "--operation", "read", "--topic", "x"];
        assert_visible(&admin(secured, &[&["acls", "create"], &evil[..]].concat()));
        let listed = admin(secured, &["acls", "list", "--topic", "x"]);
        assert!(listed.stdout.contains("User:x\\x1b[2J"), "{}", listed.stdout);
        assert_visible(&listed);
        assert_visible(&admin(secured, &["acls", "list", "--topic", "x", "-J"]));
        assert_visible(&admin(secured, &["acls", "delete", "--principal", &principal, "--yes"]));
        admin(secured, &["acls", "delete", "--principal", "User:*", "--topic", "public", "--yes"]);
    }
}

#[test]
fn a_password_is_not_replaced_without_confirmation() {
    require!(Kafka);
    for secured in secured() {
        let user = crate::support::fresh("replaced");
        let create = ["cluster", "users", "create", &user];
        let set = |more: &[&str], password: &[u8]| secured.kafka.try_kpipe(&[&create[..], more].concat(), password);
        assert_eq!(set(&[], b"first\n").code, 0);
        let asked = set(&[], b"second\n");
        assert_eq!(asked.code, 2, "{}", asked.stderr);
        assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
        assert_eq!(set(&["--yes"], b"second\n").code, 0);
        let would = secured.kafka.try_kpipe(&["cluster", "users", "delete", &user, "--dry-run"], b"");
        assert_eq!(would.stderr, format!("kpipe: would delete the SCRAM-SHA-512 credentials of user {user}\n"));
        secured.kafka.kpipe(&["cluster", "users", "delete", &user, "--yes"], b"");
        let gone = secured.kafka.try_kpipe(&["cluster", "users", "list", &user], b"");
        assert!(gone.code == 1 && gone.stderr.contains("RESOURCE_NOT_FOUND"), "{}", gone.stderr);
    }
}
