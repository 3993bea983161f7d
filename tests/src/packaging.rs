//! Checks of the files of `packaging/`.

use std::path::Path;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    std::fs::read_to_string(path).expect("the file is there")
}

/// Describes the faults of a Containerfile.
fn faults_of_containerfile(text: &str) -> Vec<String> {
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .collect();
    let mut faults = Vec::new();
    for (instruction, rest) in &lines {
        match *instruction {
            "FROM" => {
                let image = rest.split(' ').next().unwrap_or_default();
                if !image.contains('/') || !image.contains(':') || image.ends_with(":latest") {
                    faults.push(format!("{image} is not a pinned image with its registry"));
                }
            }
            "ENTRYPOINT" | "CMD" if serde_json::from_str::<Vec<String>>(rest).is_err() => {
                faults.push(format!("{instruction} is run by a shell, which does not pass signals on"));
            }
            "COPY" | "RUN" | "WORKDIR" | "USER" | "EXPOSE" | "ENTRYPOINT" | "CMD" => {}
            other => faults.push(format!("{other} is not expected here")),
        }
    }
    let last_stage = lines.iter().rposition(|(instruction, _)| *instruction == "FROM").unwrap_or_default();
    let user = lines[last_stage..].iter().find(|(instruction, _)| *instruction == "USER").map(|(_, user)| *user);
    if user.is_none_or(|user| user.starts_with("root") || user.starts_with('0')) {
        faults.push("it runs as root".to_owned());
    }
    faults
}

/// Describes the faults of a systemd unit.
fn faults_of_unit(text: &str) -> Vec<String> {
    const KNOWN: [(&str, &[&str]); 3] = [
        ("[Unit]", &["Description", "Documentation"]),
        (
            "[Service]",
            &[
                "Type",
                "ExecStart",
                "Restart",
                "RestartSec",
                "TimeoutStopSec",
                "NoNewPrivileges",
                "PrivateTmp",
                "ProtectSystem",
                "ProtectHome",
                "RestrictAddressFamilies",
            ],
        ),
        ("[Install]", &["WantedBy"]),
    ];
    let (mut faults, mut section) = (Vec::new(), None);
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = KNOWN.iter().find(|(name, _)| *name == line);
            if section.is_none() {
                faults.push(format!("unknown section {line}"));
            }
            continue;
        }
        let known = line
            .split_once('=')
            .is_some_and(|(key, value)| !value.is_empty() && section.is_some_and(|(_, keys)| keys.contains(&key)));
        if !known {
            faults.push(format!("`{line}` is not expected here"));
        }
    }
    for needed in ["ExecStart=", "WantedBy="] {
        if !text.lines().any(|line| line.starts_with(needed)) {
            faults.push(format!("it has no {needed}"));
        }
    }
    faults
}

#[test]
fn the_containerfile_has_no_faults() {
    assert_eq!(faults_of_containerfile(&read("Containerfile")), Vec::<String>::new());
    let bad = "FROM debian:latest\nADD x /\nCMD pixart serve\n";
    assert_eq!(faults_of_containerfile(bad).len(), 4, "an image, an instruction, a shell and root");
}

#[test]
fn the_systemd_unit_has_no_faults() {
    assert_eq!(faults_of_unit(&read("pixart.service")), Vec::<String>::new());
    let bad = "[Unit]\nExecStart=x\n[Servce]\nType=exec\n";
    assert_eq!(faults_of_unit(bad).len(), 4, "a key of another section, a section, its key, no WantedBy");
}
