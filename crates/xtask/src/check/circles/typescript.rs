//! The imports between the files of the page.

use super::{super::sources::Sources, Imports};

pub(super) fn imports(sources: &Sources) -> Imports<'_> {
    let mut imports = Imports::default();
    for (file, text) in sources.ending(".ts").filter(|(file, _)| file.starts_with("web/src/")) {
        for specifier in specifiers(text) {
            if let Some((to, _)) = resolve(file, specifier).and_then(|path| sources.file(&path)) {
                imports.add(file, to, specifier);
            }
        }
    }
    imports
}

/// What stands after `from` or `import` in quotes, and begins with a dot.
fn specifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\'', '"']).zip(text.split(['\'', '"']).skip(1)).filter_map(|(before, inner)| {
        let before = before.trim_end();
        let is_import = before.ends_with("from") || before.ends_with("import") || before.ends_with("import(");
        (is_import && inner.starts_with('.')).then_some(inner)
    })
}

/// The path of what `file` names `specifier`, with the ending that may be left out.
fn resolve(file: &str, specifier: &str) -> Option<String> {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    let path = path.strip_suffix(".js").or_else(|| path.strip_suffix(".ts")).unwrap_or(&path);
    Some(format!("{path}.ts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_import_each_other_are_a_circle_and_packages_are_none() {
        let sources = Sources::from([
            ("web/src/app/a.ts", "import { openDB } from 'idb';\nimport type { B } from '../engine/b';\n"),
            ("web/src/engine/b.ts", "export {\n  a,\n} from '../app/a';\nconst t = 'from';"),
            ("web/src/c.ts", "import './app/a.ts';"),
        ]);
        let circles = imports(&sources).circles();
        assert_eq!(circles.len(), 1);
        assert!(circles[0].to_string().starts_with("web/src/app/a.ts: 2 files"), "{}", circles[0]);
    }
}
