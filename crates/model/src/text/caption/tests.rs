//! Captions against diffusers' own, recorded by `tests/oracle/captions.py`.

use serde::Deserialize;

use super::{clean_caption, html, normalize_caption};

#[derive(Deserialize)]
struct Case {
    text: String,
    clean: String,
    plain: String,
}

#[test]
fn captions_are_cleaned_as_diffusers_does() {
    let recorded = include_str!("../../../../../tests/golden/captions.json");
    let cases: Vec<Case> = serde_json::from_str(recorded).expect("recorded");
    assert!(cases.len() >= 70, "{} cases", cases.len());
    let different =
        |case: &&Case| clean_caption(&case.text) != case.clean || normalize_caption(&case.text) != case.plain;
    let failed: Vec<String> = cases
        .iter()
        .filter(different)
        .map(|case| format!("{:?}\n  expected {:?}\n  got      {:?}", case.text, case.clean, clean_caption(&case.text)))
        .collect();
    assert!(failed.is_empty(), "{} of {} differ\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn a_caption_is_lower_cased_and_stripped_as_python_does() {
    assert_eq!(normalize_caption("  A RED Circle\n"), "a red circle");
    assert_eq!(normalize_caption("\u{1c}\u{1f}\u{85}\u{a0}\u{3000}x  y\u{2029}"), "x  y");
    assert_eq!(normalize_caption("ΟΔΟΣ ΟΣ·Α İX ǅ ẞ"), "οδος οσ·α i\u{307}x ǆ ß");
    assert_eq!(normalize_caption("\u{200b}a\u{feff}"), "\u{200b}a\u{feff}");
    assert_eq!(normalize_caption(" \t\r\n"), "");
}

#[test]
fn every_named_reference_is_found() {
    let table = include_str!("entities.txt");
    let names: Vec<&str> = table.lines().map(|line| line.split(' ').next().expect("a name")).collect();
    assert_eq!(names.len(), 2231);
    assert!(names.is_sorted());
    assert!(names.iter().all(|name| html::named(name).is_some_and(|text| !text.is_empty())));
    assert_eq!(html::named("NotEqualTilde;").as_deref(), Some("≂̸"));
    assert_eq!(html::named("nothing;"), None);
}

#[test]
fn a_reference_needs_no_semicolon_where_html_says_so() {
    assert_eq!(
        html::unescape("&notit; &ampx &#65 &#x41; &#128; &#0; &#xd800; &#1;|&nope;"),
        "¬it; &x A A € \u{fffd} \u{fffd} |&nope;"
    );
}
