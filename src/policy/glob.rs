//! Patterns over names: `*` is any run of characters, everything else is itself.

/// Whether all of `name` fits `pattern`.
///
/// Cost: pattern times name in the worst case, no recursion; and no allocation.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_any_run_and_the_rest_is_itself() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "llama", true),
            ("llama-*", "llama-3.3-70b", true),
            ("*-70b", "llama-3.3-70b", true),
            ("l*a*b", "llama-70b", true),
            ("a*a", "aa", true),
            ("**", "x", true),
            ("llama", "llama", true),
            ("", "", true),
            ("llama", "llama-2", false),
            ("llama-*", "Llama-3", false),
            ("a*a", "a", false),
            ("a*b*c", "acb", false),
            ("l?ama", "llama", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
