//! The numbers that tests cite stand in a list of this repository.

use std::collections::BTreeSet;
use std::path::Path;

use support::folder::files_below;

/// Whether a word is a letter of the lists and one or two digits.
fn is_code(word: &str) -> bool {
    let (first, digits) = word.split_at(word.len().min(1));
    let letter = first.starts_with(|first: char| first.is_ascii_uppercase() && first != 'K');
    letter && (1..=2).contains(&digits.len()) && digits.chars().all(|char| char.is_ascii_digit())
}

/// The codes of a line: words of its comment, the first word of each string, and those in the name of a test.
fn cited(line: &str) -> BTreeSet<String> {
    let line = line.trim();
    let of_word = |char: char| char.is_ascii_alphanumeric() || char == '_' || char == '%';
    let comment = line.find("//").map_or("", |at| &line[at..]);
    let words = comment.split(|char| !of_word(char));
    let strings =
        line.split('"').skip(1).step_by(2).filter_map(|text| text.split(|char| !of_word(char)).next());
    let mut found: BTreeSet<String> =
        words.chain(strings).filter(|word| is_code(word)).map(str::to_owned).collect();
    if let Some((_, name)) = line.split_once("fn f_") {
        let mut rest = Some(name);
        while let Some(name) = rest {
            found.extend(
                name.get(..2).filter(|digits| digits.parse::<u8>().is_ok()).map(|row| format!("f_{row}")),
            );
            rest = name.split_once("_f_").map(|(_, rest)| rest);
        }
    }
    found
}

/// The first cells of the tables of a document.
fn listed(name: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    text.lines().filter_map(|row| Some(row.strip_prefix("| ")?.split(" |").next()?.to_owned())).collect()
}

#[test]
fn every_number_that_a_test_cites_is_in_a_list() {
    let lists: BTreeSet<String> = listed("docs/failures.md").union(&listed("SECURITY.md")).cloned().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = files_below(&root.join("tests"));
    all.extend(files_below(&root.join("src")));
    all.retain(|path| path.extension().is_some_and(|end| end == "rs"));
    let mut missing = BTreeSet::new();
    let mut count = 0;
    for file in all {
        let own = file.strip_prefix(root).unwrap_or(&file);
        let is_tests = own.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
        if !is_tests || own.starts_with("tests/field") {
            continue;
        }
        for line in std::fs::read_to_string(&file).expect("text").lines() {
            let cited = cited(line);
            count += cited.len();
            missing.extend(cited.difference(&lists).map(|code| format!("{code} in {}", own.display())));
        }
    }
    assert!(count > 200, "only {count} numbers were found: what looks for them is blind");
    assert!(missing.is_empty(), "in no list of docs/failures.md or SECURITY.md: {missing:#?}");
}

#[test]
fn numbers_are_found_where_tests_cite_them() {
    let found = |line: &str| cited(line).into_iter().collect::<Vec<_>>();
    assert_eq!(found("/// A2, C17: every byte passes (B22)."), ["A2", "B22", "C17"]);
    assert_eq!(found(r#"        with("H04 other", "Expect: 200-ok\r\n").status(417),"#), ["H04"]);
    assert_eq!(found("fn f_07_f_08_silence_has_an_end() {"), ["f_07", "f_08"]);
    assert_eq!(found("fn f_17b_pipelined_bytes() {"), ["f_17"]);
    assert_eq!(found(r#"let x = "%C0%AE"; // 200, K1 and HTTP"#), Vec::<String>::new());
}
