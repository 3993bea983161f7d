//! Import circles: files of one crate, or of the page, that need each other, so that none can be read or moved alone. A
//! module and those inside it may.

mod rust;
mod typescript;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;

use super::{Finding, sources::Sources};

pub(super) fn check(sources: &Sources) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for modules in sources.crates()? {
        findings.extend(rust::imports(&modules).circles());
    }
    findings.extend(typescript::imports(sources).circles());
    Ok(findings)
}

/// Which file imports what from which file.
#[derive(Default)]
struct Imports<'a>(BTreeMap<&'a str, BTreeMap<&'a str, String>>);

impl<'a> Imports<'a> {
    /// Notes that `from` imports `name` from `to`.
    fn add(&mut self, from: &'a str, to: &'a str, name: &str) {
        if from != to {
            self.0.entry(from).or_default().entry(to).or_insert_with(|| name.to_owned());
        }
    }

    /// One finding for each set of files that reach each other, with the shortest circle in it.
    fn circles(&self) -> Vec<Finding> {
        let reachable: BTreeMap<&str, BTreeSet<&str>> =
            self.0.keys().map(|file| (*file, self.reachable(file))).collect();
        let mut seen = BTreeSet::new();
        let mut findings = Vec::new();
        for (file, others) in &reachable {
            if !others.contains(file) || seen.contains(file) {
                continue;
            }
            let circle: BTreeSet<&str> = others
                .iter()
                .copied()
                .filter(|other| reachable.get(other).is_some_and(|back| back.contains(file)))
                .collect();
            let shortest = circle.iter().filter_map(|file| self.shortest_circle(file)).min_by_key(Vec::len);
            let steps: Vec<String> = shortest
                .iter()
                .flat_map(|path| path.windows(2))
                .map(|step| format!("{} imports `{}` of {}", step[0], self.0[step[0]][step[1]], step[1]))
                .collect();
            let what = format!("{} files import each other: {}", circle.len(), steps.join("; "));
            findings.push(Finding::new(*file, what));
            seen.extend(circle);
        }
        findings
    }

    fn next(&self, file: &str) -> impl Iterator<Item = &'a str> {
        self.0.get(file).into_iter().flat_map(|to| to.keys().copied())
    }

    fn reachable(&self, file: &'a str) -> BTreeSet<&'a str> {
        let (mut found, mut open) = (BTreeSet::new(), vec![file]);
        while let Some(file) = open.pop() {
            open.extend(self.next(file).filter(|next| found.insert(*next)));
        }
        found
    }

    fn shortest_circle(&self, file: &'a str) -> Option<Vec<&'a str>> {
        let (mut before, mut open) = (BTreeMap::<&str, &str>::new(), VecDeque::from([file]));
        while let Some(at) = open.pop_front() {
            for next in self.next(at) {
                if next == file {
                    let mut path = vec![file, at];
                    while let Some(previous) = before.get(path[path.len() - 1]) {
                        path.push(previous);
                    }
                    path.reverse();
                    return Some(path);
                }
                if !before.contains_key(next) {
                    before.insert(next, at);
                    open.push_back(next);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_circle_of_a_set_is_shown_and_what_leads_to_it_is_none() {
        let mut imports = Imports::default();
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "c"), ("x", "y")] {
            imports.add(from, to, "T");
        }
        let circles: Vec<String> = imports.circles().iter().map(ToString::to_string).collect();
        assert_eq!(circles, ["b: 3 files import each other: c imports `T` of d; d imports `T` of c"]);
    }
}
