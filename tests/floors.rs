//! Who may import whom: a file imports from its own room and from lower floors, never sideways, never up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms and their floors; see the crate's documentation.
const FLOORS: &[(&str, u32)] = &[
    ("main", 10),
    ("process", 9),
    ("cli", 9),
    ("admin", 8),
    ("clients", 7),
    ("pools", 6),
    ("discovery", 6),
    ("servers", 5),
    ("telemetry", 4),
    ("net", 4),
    ("routing", 4),
    ("protocol", 3),
    ("auth", 3),
    ("topology", 3),
    ("config", 2),
    ("stats", 2),
    ("error", 1),
    ("clock", 1),
    ("secret", 1),
    ("thread", 1),
    ("locked", 1),
];

fn floor(room: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn room_of(file: &Path, root: &Path) -> String {
    let relative = file.strip_prefix(root).unwrap();
    let first = relative.components().next().unwrap();
    first
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The rooms that a text names as `crate::room::…`, with the line of each.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let room: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.push((index + 1, room));
        }
    }
    found
}

#[test]
fn no_file_imports_sideways_or_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources were not found");
    let mut wrong = Vec::new();
    for file in &files {
        let room = room_of(file, &root);
        if room == "lib" {
            continue;
        }
        let own = floor(&room)
            .unwrap_or_else(|| panic!("src/{room} has no floor: give it one in tests/floors.rs"));
        for (line, target) in imports(&fs::read_to_string(file).unwrap()) {
            let Some(other) = floor(&target) else {
                wrong.push(format!(
                    "{}:{line}: crate::{target} is no room",
                    file.display()
                ));
                continue;
            };
            if target != room && other >= own {
                wrong.push(format!(
                    "{}:{line}: {room} imports {target}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Rooms and files that take the world as arguments.
const PURE: &[&str] = &[
    "admin/command.rs",
    "admin/command",
    "auth",
    "config",
    "error.rs",
    "error",
    "pools/line.rs",
    "pools/plan.rs",
    "pools/policy.rs",
    "protocol",
    "routing",
    "secret.rs",
    "stats",
    "topology",
];

/// What is none of theirs: sockets, files, tasks, the system's clock and its chance.
const WORLDLY: &[&str] = &[
    "tokio::",
    "async fn",
    "clock::now",
    "clock::lately",
    "clock::entropy",
    "getrandom",
    "Instant::",
    "SystemTime",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::process",
    "std::thread",
    "socket2",
    "nix::",
];

/// Who may have what of it, and why.
const EXCEPT: &[(&str, &[&str])] = &[
    // It reads the files, so that the rest of the settings' room need not.
    ("config/load.rs", &["std::fs"]),
    ("config/load/tests.rs", &["std::process"]),
    // Its test needs a stack of a size of its own.
    ("routing/second.rs", &["std::thread"]),
];

#[test]
fn pure_rooms_open_no_socket_or_file_and_start_no_task() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for room in PURE {
        let (path, mut files) = (root.join(room), Vec::new());
        if path.is_dir() {
            sources(&path, &mut files);
        } else {
            files.push(path);
        }
        assert!(!files.is_empty(), "{room} is not there");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(&root).unwrap().to_str().unwrap();
            let except = EXCEPT.iter().filter(|(known, _)| *known == name);
            let may: Vec<&str> = except.flat_map(|(_, may)| may.iter().copied()).collect();
            let found = |word: &&&str| text.contains(**word);
            for word in WORLDLY.iter().filter(found) {
                if !may.contains(word) {
                    wrong.push(format!("{name} uses {word}"));
                }
            }
            for unused in may.iter().filter(|word| !text.contains(**word)) {
                wrong.push(format!("{name} needs no exception for {unused}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
