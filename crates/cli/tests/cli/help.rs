//! What `--help` and usage errors say.

use crate::program::{run, tidewatch};

fn help(args: &[&str]) -> String {
    let done = run(tidewatch().args(args).arg("--help"));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stderr, "");
    // Clap leaves the indent on empty lines.
    let lines = done.text().lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_command_has_help_with_examples() {
    const COMMANDS: [&[&str]; 30] = [
        &[],
        &["serve"],
        &["agent"],
        &["ps"],
        &["explain"],
        &["hosts"],
        &["log"],
        &["workload"],
        &["workload", "declare"],
        &["workload", "ls"],
        &["workload", "rm"],
        &["wait"],
        &["directives"],
        &["directives", "publish"],
        &["directives", "set"],
        &["directives", "rm"],
        &["directives", "show"],
        &["directives", "clear"],
        &["directives", "follow"],
        &["get"],
        &["put"],
        &["del"],
        &["ls"],
        &["watch"],
        &["watchers"],
        &["watchers", "ls"],
        &["watchers", "cancel"],
        &["status"],
        &["backup"],
        &["restore"],
    ];
    for command in COMMANDS {
        let name = ["help"]
            .iter()
            .chain(command)
            .copied()
            .collect::<Vec<_>>()
            .join("-");
        insta::assert_snapshot!(name, help(command));
    }
}

#[test]
fn short_help_of_the_whole_fits_a_screen() {
    let done = run(tidewatch().arg("-h"));
    insta::assert_snapshot!("help-short", done.text());
    assert!(done.text().lines().count() <= 45);
}

#[test]
fn completions_are_made_for_every_usual_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = run(tidewatch().args(["completions", shell]));
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.text().contains("workload"), "{shell}");
    }
}

#[test]
fn usage_errors_say_what_where_and_how_and_end_with_2() {
    let cases: [(&str, &[&str]); 17] = [
        ("unknown command", &["gett", "/k"]),
        ("unknown option", &["get", "/k", "--revision", "3"]),
        ("missing key", &["get"]),
        ("unknown output", &["get", "/k", "--output", "yaml"]),
        ("rev with snapshot", &["watch", "/k", "--rev", "3", "--snapshot"]),
        ("rev of zero", &["watch", "/k", "--rev", "0"]),
        ("settle without exec", &["watch", "/k", "--settle", "1s"]),
        (
            "settle that is no time",
            &["watch", "/k", "--exec", "true", "--settle", "soon"],
        ),
        (
            "endpoint for serve",
            &["serve", "--endpoint", "http://127.0.0.1:1"],
        ),
        (
            "output for completions",
            &["--output", "json", "completions", "bash"],
        ),
        (
            "output with exec",
            &["watch", "/k", "--exec", "true", "--output", "json"],
        ),
        ("unknown kind", &["workload", "declare", "shop", "--kind", "pod"]),
        (
            "label without value",
            &["workload", "declare", "shop", "--kind", "stack", "--label", "a"],
        ),
        ("unknown state", &["ps", "--state", "gone"]),
        ("agent without server", &["agent"]),
        (
            "agent with endpoint",
            &[
                "agent",
                "--server",
                "http://127.0.0.1:1",
                "--endpoint",
                "http://127.0.0.1:1",
            ],
        ),
        (
            "agent with an engine without a name",
            &[
                "agent",
                "--server",
                "http://127.0.0.1:1",
                "--docker",
                "=unix:///x",
            ],
        ),
    ];
    let mut said = Vec::new();
    for (name, args) in cases {
        let done = run(tidewatch().args(args));
        assert_eq!(done.code, Some(2), "{name}: {done:?}");
        assert_eq!(done.text(), "", "{name}");
        let stderr = done.stderr.trim_end();
        said.push(format!("--- {name}: tidewatch {}\n{stderr}\n", args.join(" ")));
    }
    insta::assert_snapshot!("usage-errors", said.concat());
    let nothing = run(&mut tidewatch());
    assert_eq!((nothing.code, nothing.text()), (Some(2), ""));
}
