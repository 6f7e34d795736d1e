//! `unsafe` lives in one crate, and every piece of it gives its proof.

use super::finding::Finding;
use super::paths::paths;
use super::source::Source;

/// The crate that may.
const HOME: &str = "crates/keepd-os";

/// How far above the word its proof may stand, in lines.
const DISTANCE_LINES_MAX: usize = 8;

/// Checks one file.
pub(crate) fn check(source: &Source<'_>) -> Vec<Finding> {
    let words = paths(&source.code).into_iter().filter(|path| path.segments == ["unsafe"]);
    if source.package() != HOME {
        return words
            .map(|word| {
                let message = "`unsafe` lives in keepd-os alone: give the call a safe face there";
                source.finding(word.offset, "unsafe", message)
            })
            .collect();
    }
    words
        .filter(|word| needs_proof(&source.code[word.offset..]) && !has_proof(source, word.offset))
        .map(|word| {
            let message = if is_function(&source.code[word.offset..]) {
                "state what a caller must hold to under a heading `/// # Safety`, directly above"
            } else {
                "say in a comment `// SAFETY: …` directly above why the callee's conditions hold"
            };
            source.finding(word.offset, "unsafe", message)
        })
        .collect()
}

fn is_function(code: &str) -> bool {
    code["unsafe".len()..].trim_start().starts_with("fn")
}

/// Reports whether the code that begins with `unsafe` is a block, a function, an implementation or
/// a list of foreign functions. The type of a function pointer (`unsafe fn(…)`) promises nothing.
fn needs_proof(code: &str) -> bool {
    let rest = code["unsafe".len()..].trim_start();
    let after_word = |word: &str| {
        rest.strip_prefix(word).map(|after| after.trim_start().trim_start_matches(['"', ' ']))
    };
    if let Some(after) = after_word("fn") {
        return !after.starts_with('(');
    }
    match after_word("extern") {
        Some(after) => match after.strip_prefix("fn") {
            Some(name) => !name.trim_start().starts_with('('),
            None => true,
        },
        None => true,
    }
}

/// Reports whether a proof stands above. A function that is unsafe to call states its conditions in
/// its documentation, under a heading of its own.
fn has_proof(source: &Source<'_>, offset: usize) -> bool {
    let end = source.comments[offset..]
        .find('\n')
        .map_or(source.comments.len(), |length| offset + length);
    source.comments[..end]
        .lines()
        .rev()
        .take(DISTANCE_LINES_MAX + 1)
        .any(|line| line.contains("// SAFETY:") || line.contains("/// # Safety"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Source::new(path, text, false)).len()
    }

    #[test]
    fn other_crates_have_none() {
        let path = "crates/keepd-proxy/src/a.rs";
        assert_eq!(count(path, "fn f() { unsafe { g() } }"), 1);
        assert_eq!(count(path, "#[unsafe(no_mangle)]\nfn f() {}"), 1);
        assert_eq!(count(path, "#![forbid(unsafe_code)]\n// unsafe\nfn f() {}"), 0);
    }

    #[test]
    fn each_piece_has_its_proof() {
        let path = "crates/keepd-os/src/a.rs";
        let good = "fn f() {\n // SAFETY: the pointer lives.\n unsafe { g() }\n}";
        assert_eq!(count(path, good), 0);
        assert_eq!(count(path, "fn f() {\n unsafe { g() }\n}"), 1);
        let in_string = "fn f() {\n h(\"// SAFETY: \");\n unsafe { g() }\n}";
        assert_eq!(count(path, in_string), 1);
        let far = format!("// SAFETY: x\n{}unsafe impl Send for A {{}}", "\n".repeat(8));
        assert_eq!(count(path, &far), 1);
        assert_eq!(count(path, &far.replacen('\n', "", 1)), 0);
        assert_eq!(count(path, "unsafe fn f() {}"), 1);
        assert_eq!(count(path, "/// # Safety\n/// `x` lives.\nunsafe fn f() {}"), 0);
        assert_eq!(count(path, "unsafe extern \"C\" fn f() {}"), 1);
        assert_eq!(count(path, "unsafe extern \"C\" { fn f(); }"), 1);
    }

    #[test]
    fn types_of_function_pointers_need_none() {
        let path = "crates/keepd-os/src/a.rs";
        assert_eq!(count(path, "type A = unsafe fn(i32);"), 0);
        assert_eq!(count(path, "type A = unsafe extern \"C\" fn(i32);"), 0);
    }
}
