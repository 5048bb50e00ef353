//! The architecture as a test: which crate may depend on which, what a library must not pull in, and how large the tree of
//! dependencies may grow that somebody takes on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// A crate of `crates/`, and those of ours that it may depend on. A new edge is a change of design.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("fleet", &["core"]),
    ("directives", &["core"]),
    ("sqlite", &["core"]),
    ("etcd", &["core", "directives"]),
    ("docker", &["core", "fleet"]),
    ("proto", &["core"]),
    ("client", &["core", "fleet", "proto"]),
    ("etcd-api", &["core", "proto"]),
    (
        "server",
        &[
            "core",
            "fleet",
            "directives",
            "sqlite",
            "etcd",
            "docker",
            "proto",
            "etcd-api",
        ],
    ),
    (
        "cli",
        &[
            "core",
            "fleet",
            "directives",
            "sqlite",
            "etcd",
            "docker",
            "proto",
            "client",
            "etcd-api",
            "server",
        ],
    ),
];

/// What must not be found anywhere in a crate's tree of dependencies, and why.
const ABSENT: &[Absence] = &[
    Absence {
        of: "core",
        default_features: true,
        absent: &["serde", "serde_json", "prost", "tonic", "http", "hyper"],
        because: "core knows no wire format",
    },
    Absence {
        of: "core",
        default_features: true,
        absent: &["rusqlite", "libsqlite3-sys", "bollard", "etcd-client"],
        because: "core knows no adapter's system",
    },
    Absence {
        of: "fleet",
        default_features: true,
        absent: &["bollard", "hyper", "tonic", "rusqlite"],
        because: "the fleet's model does no I/O",
    },
    Absence {
        of: "docker",
        default_features: false,
        absent: &["bollard", "hyper", "http"],
        because: "the planner and the reconciler run on any lister",
    },
    Absence {
        of: "docker",
        default_features: true,
        absent: &["tonic", "axum", "rusqlite", "tidewatch-etcd"],
        because: "the reconciler writes into any keyspace",
    },
    Absence {
        of: "sqlite",
        default_features: true,
        absent: &["tidewatch-etcd", "tonic", "hyper"],
        because: "the journal is local",
    },
    Absence {
        of: "etcd",
        default_features: true,
        absent: &["tidewatch-sqlite", "tidewatch-docker", "rusqlite", "bollard"],
        because: "adapters do not know each other",
    },
    Absence {
        of: "etcd-api",
        default_features: true,
        absent: &["rusqlite", "bollard", "etcd-client", "tidewatch-server"],
        because: "etcd's API is served over any keyspace",
    },
    Absence {
        of: "client",
        default_features: true,
        absent: &["axum", "rusqlite", "bollard", "tidewatch-server"],
        because: "a client carries nothing of the server",
    },
];

struct Absence {
    of: &'static str,
    default_features: bool,
    absent: &'static [&'static str],
    because: &'static str,
}

/// How many crates of others a library may bring along (normal dependencies, each version counted). What is there today is
/// less; the room is for updates of dependencies, not for new ones.
const BUDGETS: &[Budget] = &[
    Budget {
        of: "core",
        default_features: true,
        crates: 30,
    },
    Budget {
        of: "docker",
        default_features: false,
        crates: 45,
    },
    Budget {
        of: "client",
        default_features: true,
        crates: 90,
    },
    Budget {
        of: "etcd",
        default_features: true,
        crates: 100,
    },
];

struct Budget {
    of: &'static str,
    default_features: bool,
    crates: usize,
}

#[test]
fn crates_depend_only_on_those_that_the_table_allows() {
    let table: BTreeMap<_, _> = MAY_DEPEND_ON.iter().copied().collect();
    for (folder, package) in crates() {
        let allowed = table.get(folder.as_str()).unwrap_or_else(|| {
            panic!("crates/{folder} is not in the table of dependencies; a new crate is a change of design")
        });
        let allowed: BTreeSet<_> = allowed.iter().map(|&folder| package_name(folder)).collect();
        let extra: Vec<_> = ours(&package).filter(|name| !allowed.contains(name)).collect();
        assert!(
            extra.is_empty(),
            "crates/{folder} must not depend on {}",
            extra.join(", ")
        );
    }
}

#[test]
fn the_table_has_no_cycle() {
    let mut above = BTreeSet::new();
    for (folder, allowed) in MAY_DEPEND_ON {
        // The rows stand in an order in which each crate comes after all that it may depend on.
        for below in *allowed {
            assert!(
                above.contains(below),
                "{folder} may depend on {below}, which does not stand above it"
            );
        }
        above.insert(*folder);
    }
}

#[test]
fn nothing_depends_on_the_packages_around_the_crates() {
    let around = ["xtask", "tidewatch-tests", "tidewatch-benches"];
    for package in metadata().workspace_packages() {
        for name in ours(package) {
            assert!(
                !around.contains(&name.as_str()),
                "{} must not depend on {name}",
                package.name
            );
        }
    }
}

#[test]
fn no_crate_pulls_in_what_it_promises_to_be_free_of() {
    let present: BTreeSet<_> = crates().into_keys().collect();
    for Absence {
        of,
        default_features,
        absent,
        because,
    } in ABSENT
    {
        if !present.contains(*of) {
            continue;
        }
        let tree = tree(of, *default_features);
        let found: Vec<_> = absent
            .iter()
            .filter(|&&name| tree.iter().any(|dependency| dependency.name == name))
            .collect();
        assert!(
            found.is_empty(),
            "{} pulls in {found:?}, but {because}",
            package_name(of)
        );
    }
}

#[test]
fn the_dependencies_of_each_library_stay_within_its_budget() {
    let present: BTreeSet<_> = crates().into_keys().collect();
    for Budget {
        of,
        default_features,
        crates,
    } in BUDGETS
    {
        if !present.contains(*of) {
            continue;
        }
        let others: Vec<_> = tree(of, *default_features)
            .into_iter()
            .filter(|dependency| !dependency.name.starts_with("tidewatch-"))
            .map(|dependency| format!("{} {}", dependency.name, dependency.version))
            .collect();
        assert!(!others.is_empty(), "cargo tree showed nothing for {of}");
        assert!(
            others.len() <= *crates,
            "{} brings {} crates along, more than the {crates} it may: {}",
            package_name(of),
            others.len(),
            others.join(", ")
        );
    }
}

#[test]
fn core_never_spawns() {
    // What must run is a future that the embedder runs, on the runtime and with the clock of its choice.
    assert_absent(
        "core",
        &[
            "tokio::spawn",
            "spawn_blocking",
            "spawn_local",
            "JoinSet",
            "thread::spawn",
            "thread::Builder",
        ],
    );
}

#[test]
fn libraries_leave_process_wide_state_alone() {
    let process_wide = [
        "set_global_default",
        "set_default_subscriber",
        "tracing_subscriber",
        "install_default",
        "tokio::signal",
        "signal_hook",
        "set_hook",
        "set_var",
        "process::exit",
        "process::abort",
    ];
    for folder in crates().into_keys().filter(|folder| folder != "cli") {
        assert_absent(&folder, &process_wide);
    }
}

/// Fails where the crate's code, without comments and unit tests, has one of the texts.
fn assert_absent(folder: &str, texts: &[&str]) {
    let sources = sources(&root().join("crates").join(folder).join("src"));
    assert!(!sources.is_empty(), "crates/{folder}/src holds no source");
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("a source is readable text");
        let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for (number, line) in code
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for text in texts {
                assert!(
                    !line.contains(text),
                    "{}:{}: {text} in a library",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// The Rust files below a folder. Files that only tests or conformance suites compile may do as they like.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the folder of a crate's sources is readable") {
        let path = entry.expect("the folder of a crate's sources is readable").path();
        let is_for_tests = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| stem == "tests" || stem.contains("conformance"));
        if is_for_tests {
            continue;
        }
        if path.is_dir() {
            found.append(&mut sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// A line of `cargo tree`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Dependency {
    name: String,
    version: String,
}

/// All normal dependencies of a crate on this platform, itself excluded. `cargo metadata` adds up the features of the whole
/// workspace, so what one crate alone brings along is `cargo tree`'s to say.
fn tree(folder: &str, default_features: bool) -> BTreeSet<Dependency> {
    let package = package_name(folder);
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root())
        .args(["tree", "--package", &package, "--edges", "normal"]);
    command.args(["--prefix", "none", "--format", "{p}", "--color", "never"]);
    if !default_features {
        command.arg("--no-default-features");
    }
    let output = command.output().expect("cargo runs, since it runs this test");
    assert!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("names of crates are ASCII");
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Dependency {
                name: words.next()?.to_owned(),
                version: words.next()?.to_owned(),
            })
        })
        .filter(|dependency| dependency.name != package)
        .collect()
}

/// The packages in `crates/` by their folder.
fn crates() -> BTreeMap<String, Package> {
    let metadata = metadata();
    let dir = metadata.workspace_root.join("crates");
    metadata
        .workspace_packages()
        .into_iter()
        .filter_map(|package| {
            let folder = package.manifest_path.parent()?.strip_prefix(&dir).ok()?;
            Some((folder.to_string(), package.clone()))
        })
        .collect()
}

/// The packages of ours that a package needs to build. What only its own tests need may point anywhere.
fn ours(package: &Package) -> impl Iterator<Item = String> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.path.is_some() && dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.clone())
}

fn package_name(folder: &str) -> String {
    if folder == "cli" {
        "tidewatch".to_owned()
    } else {
        format!("tidewatch-{folder}")
    }
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .cargo_path(env!("CARGO"))
        .current_dir(root())
        .no_deps()
        .exec()
        .expect("cargo reads the workspace it builds")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
        .to_path_buf()
}
