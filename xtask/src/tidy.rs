//! `cargo xtask tidy`: the rules that keep the tree in order and that no other tool checks.
//!
//! A rule is a function from a file to its violations. `#[test] the_tree_is_tidy` runs them all, so that `cargo test` shows
//! what CI would say.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{process, workspace};

pub(crate) fn run() -> anyhow::Result<()> {
    let violations = violations(&workspace::root())?;
    if violations.is_empty() {
        process::report("tidy: nothing to say");
        return Ok(());
    }
    bail!(
        "{} untidy places:\n  {}",
        violations.len(),
        violations.join("\n  ")
    )
}

/// A file of the tree.
struct File {
    /// Relative to the workspace's root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn stem(&self) -> &str {
        self.name().split('.').next().unwrap_or_default()
    }

    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension() == Some(OsStr::new(extension))
    }

    fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// `path:line: what`, the form that editors jump to.
    fn at(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{}: {}", self.path, line + 1, what.as_ref())
    }

    fn at_whole(&self, what: impl AsRef<str>) -> String {
        format!("{}: {}", self.path, what.as_ref())
    }
}

type Rule = fn(&File) -> Vec<String>;

const RULES: &[Rule] = &[
    names_say_what_is_inside,
    snapshots_are_reviewed,
    lines_end_cleanly,
    nothing_is_left_undone,
    no_path_of_one_machine,
    exceptions_give_a_reason,
    sources_begin_with_their_doc,
    manifests_inherit_from_the_workspace,
];

fn violations(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut found = Vec::new();
    for path in tree(root)? {
        let shown = relative(root, &path);
        match String::from_utf8(fs::read(&path).with_context(|| format!("cannot read {shown}"))?) {
            Ok(text) => files.push(File { path: shown, text }),
            Err(_)
                if PICTURES
                    .iter()
                    .any(|&extension| path.extension() == Some(OsStr::new(extension))) => {}
            Err(_) => found.push(format!(
                "{shown}: a binary file; the tree holds text (and pictures for the docs)"
            )),
        }
    }
    for file in &files {
        found.extend(RULES.iter().flat_map(|rule| rule(file)));
        found.extend(links_lead_somewhere(root, file));
    }
    found.extend(design_notes_are_numbered(&files));
    Ok(found)
}

/// What git does not hold, at any depth.
const OUTSIDE: &[&str] = &[".git", "target", "dist"];
const PICTURES: &[&str] = &["png", "ico", "woff2"];

fn tree(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        if OUTSIDE.iter().any(|&outside| name == outside) {
            continue;
        }
        if kind.is_dir() {
            found.append(&mut tree(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root)
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}

// ---- rules ----

/// A file with such a name is where things go that nobody could name.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "manager", "managers", "misc",
];

fn names_say_what_is_inside(file: &File) -> Vec<String> {
    let mut segments: Vec<_> = file.path.split('/').collect();
    segments.pop();
    segments.push(file.stem());
    segments
        .into_iter()
        .filter(|segment| EMPTY_NAMES.contains(segment))
        .map(|segment| file.at_whole(format!("`{segment}` does not say what is inside; name the thing")))
        .collect()
}

fn snapshots_are_reviewed(file: &File) -> Vec<String> {
    let is_pending = file.has_extension("new") || file.has_extension("pending-snap");
    if is_pending {
        vec![file.at_whole("a snapshot that nobody reviewed; run `cargo insta review`")]
    } else {
        Vec::new()
    }
}

fn lines_end_cleanly(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in file.text.split('\n').enumerate() {
        // A snapshot is what a program printed, blanks included.
        if line.ends_with([' ', '\t', '\r']) && !file.has_extension("snap") {
            found.push(file.at(number, "blanks or a carriage return at the end of the line"));
        }
        if file.has_extension("rs") && !file.is_generated() && line.contains('\t') {
            found.push(file.at(number, "a tab"));
        }
    }
    if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
        found.push(file.at_whole("must end with one line feed"));
    }
    found
}

/// Written in two halves, so that this file does not break its own rule.
const UNDONE: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("TO", "DO:"),
    concat!("#[ign", "ore]"),
];

fn nothing_is_left_undone(file: &File) -> Vec<String> {
    if file.is_generated() || !file.has_extension("rs") {
        return Vec::new();
    }
    lines_with(file, UNDONE, |text| {
        format!("`{text}` is unfinished work, or lacks its reason")
    })
}

const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
];

fn no_path_of_one_machine(file: &File) -> Vec<String> {
    lines_with(file, MACHINE_PATHS, |text| {
        format!("`{text}` exists on one machine only")
    })
}

/// Clippy checks the same, but not in code that is compiled on another platform or with another feature set.
fn exceptions_give_a_reason(file: &File) -> Vec<String> {
    if file.is_generated() || !file.has_extension("rs") {
        return Vec::new();
    }
    let lines: Vec<_> = file.text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        if ![
            concat!("#[all", "ow("),
            concat!("#![all", "ow("),
            concat!("#[exp", "ect("),
            concat!("#![exp", "ect("),
        ]
        .iter()
        .any(|attribute| line.starts_with(attribute))
        {
            continue;
        }
        let length = lines[number..]
            .iter()
            .position(|line| line.trim_end().ends_with(")]"))
            .unwrap_or_default();
        if !lines[number..=number + length]
            .iter()
            .any(|line| line.contains("reason = "))
        {
            found.push(file.at(number, "a lint is silenced without `reason = \"…\"`"));
        }
    }
    found
}

fn sources_begin_with_their_doc(file: &File) -> Vec<String> {
    // The tests of a module that are a file of their own are told of by that module.
    if file.is_generated() || !file.has_extension("rs") || file.name() == "tests.rs" {
        return Vec::new();
    }
    let first = file
        .text
        .lines()
        .find(|line| !line.is_empty() && !line.starts_with("#!"))
        .unwrap_or_default();
    let Some(doc) = first.strip_prefix("//!") else {
        return vec![file.at(0, "must begin with `//!`: what the file is for")];
    };
    if doc.trim() == "Skeleton." {
        return vec![file.at(0, "is still a skeleton")];
    }
    Vec::new()
}

fn manifests_inherit_from_the_workspace(file: &File) -> Vec<String> {
    // One that is the root of a workspace has nothing to inherit from.
    if file.name() != "Cargo.toml" || file.text.lines().any(|line| line == "[workspace]") {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !file.text.contains("[lints]\nworkspace = true\n") {
        found.push(file.at_whole("must have `[lints]` with `workspace = true`"));
    }
    for key in ["version", "edition", "rust-version", "license"] {
        if !file.text.contains(&format!("\n{key}.workspace = true\n")) {
            found.push(file.at_whole(format!("must have `{key}.workspace = true`")));
        }
    }
    let mut in_dependencies = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
        } else if in_dependencies
            && line.starts_with(|first: char| first.is_ascii_alphanumeric())
            && !line.contains("workspace = true")
        {
            found.push(file.at(
                number,
                "versions stand in the root's `[workspace.dependencies]`; write `workspace = true`",
            ));
        }
    }
    let expected = match file
        .path
        .strip_prefix("crates/")
        .and_then(|rest| rest.split('/').next())
    {
        Some("cli") => "tidewatch".to_owned(),
        Some(folder) => format!("tidewatch-{folder}"),
        None => return found,
    };
    if !file.text.contains(&format!("\nname = \"{expected}\"\n")) {
        found.push(file.at_whole(format!("the package in this folder must be called `{expected}`")));
    }
    found
}

/// Links in Markdown to files of the tree. Anchors and addresses elsewhere are not followed.
fn links_lead_somewhere(root: &Path, file: &File) -> Vec<String> {
    if !file.has_extension("md") {
        return Vec::new();
    }
    let folder = root
        .join(&file.path)
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains(':');
            if !is_elsewhere && !folder.join(path).exists() {
                found.push(file.at(number, format!("the link to `{target}` leads nowhere")));
            }
        }
    }
    found
}

/// `docs/design/0001-title.md`, without gaps or twins.
fn design_notes_are_numbered(files: &[File]) -> Vec<String> {
    let mut numbers = BTreeMap::new();
    let mut found = Vec::new();
    for file in files {
        let Some(name) = file
            .path
            .strip_prefix("docs/design/")
            .filter(|&name| name != "README.md")
        else {
            continue;
        };
        match name
            .split_once('-')
            .map(|(number, _)| (number.len(), number.parse::<usize>()))
        {
            Some((4, Ok(number))) => {
                if let Some(other) = numbers.insert(number, &file.path) {
                    found.push(file.at_whole(format!("has the number of {other}")));
                }
            }
            _ => found.push(file.at_whole("a design note is called `0001-title.md`")),
        }
    }
    for (expected, (number, path)) in (1..).zip(&numbers) {
        if expected != *number {
            found.push(format!("{path}: note {expected:04} is missing before it"));
            break;
        }
    }
    found
}

fn lines_with(file: &File, texts: &[&str], what: impl Fn(&str) -> String) -> Vec<String> {
    let lines = file.text.lines().enumerate();
    lines
        .flat_map(|(number, line)| {
            texts
                .iter()
                .filter(move |&&text| line.contains(text))
                .map(move |&text| (number, text))
        })
        .map(|(number, text)| file.at(number, what(text)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let violations = violations(&workspace::root()).unwrap();
        assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    }

    /// How many rules object to a file, and to how many of its places.
    fn objections(path: &str, text: &str) -> usize {
        let file = File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        RULES.iter().map(|rule| rule(&file).len()).sum()
    }

    #[test]
    fn each_rule_objects_to_what_it_forbids() {
        let machine_path = format!("//! Doc.\nconst P: &str = \"{}x\";\n", MACHINE_PATHS[0]);
        let undone = format!("//! Doc.\nfn f() {{ {}) }}\n", UNDONE[0]);
        let silent = "//! Doc.\n#[expect(\n    dead_code,\n)]\nfn f() {}\n";
        let cases = [
            ("crates/core/src/utils.rs", "//! Doc.\n"),
            ("crates/core/src/common/key.rs", "//! Doc.\n"),
            ("crates/cli/tests/snapshots/help.snap.new", "text\n"),
            ("crates/core/src/key.rs", "//! Doc. \n"),
            ("crates/core/src/key.rs", "//! Doc."),
            ("crates/core/src/key.rs", "//! Doc.\n\n"),
            ("crates/core/src/key.rs", "//! Doc.\n\tfn f() {}\n"),
            ("crates/core/src/key.rs", "fn f() {}\n"),
            ("crates/core/src/lib.rs", "//! Skeleton.\n"),
            ("crates/core/src/key.rs", machine_path.as_str()),
            ("crates/core/src/key.rs", undone.as_str()),
            ("crates/core/src/key.rs", silent),
        ];
        for (path, text) in cases {
            assert_eq!(objections(path, text), 1, "{path}: {text:?}");
        }
    }

    #[test]
    fn a_reason_on_a_later_line_of_the_attribute_counts() {
        let text = "//! Doc.\n#[expect(\n    dead_code,\n    reason = \"x\"\n)]\nfn f() {}\n";
        assert_eq!(objections("crates/core/src/key.rs", text), 0);
    }

    #[test]
    fn a_manifest_with_a_version_of_its_own_is_refused() {
        let inherited = "[package]\nname = \"tidewatch-core\"\nversion.workspace = true\nedition.workspace = true\n\
            rust-version.workspace = true\nlicense.workspace = true\n\n[dependencies]\nbytes.workspace = true\n\n\
            [lints]\nworkspace = true\n";
        assert_eq!(objections("crates/core/Cargo.toml", inherited), 0);
        let own_version = inherited.replace("bytes.workspace = true", "bytes = \"1\"");
        assert_eq!(objections("crates/core/Cargo.toml", &own_version), 1);
        assert_eq!(objections("crates/docker/Cargo.toml", inherited), 1);
        let root = format!("[workspace]\n\n{own_version}");
        assert_eq!(objections("benches/peers/Cargo.toml", &root), 0);
    }

    #[test]
    fn design_notes_must_not_leave_gaps() {
        let notes = |names: &[&str]| {
            let file = |name: &&str| File {
                path: format!("docs/design/{name}"),
                text: String::new(),
            };
            design_notes_are_numbered(&names.iter().map(file).collect::<Vec<_>>()).len()
        };
        assert_eq!(notes(&["README.md", "0001-a.md", "0002-b.md"]), 0);
        assert_eq!(notes(&["0001-a.md", "0003-c.md"]), 1);
        assert_eq!(notes(&["0001-a.md", "0001-b.md"]), 1);
        assert_eq!(notes(&["ideas.md"]), 1);
    }
}
