//! Splits a Rust file into its code, its comments and its test regions.
//!
//! Enters: text. Leaves: lines whose `code` has comments and the insides of literals blanked out, so that a string
//! cannot fool a rule about code, and whose `comment` holds only the words. It never parses: it knows only braces and
//! quotes.

/// One line of a file.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The line's code, with spaces for comments and for the insides of literals.
    pub code: String,
    /// The text of comments on this line, without code.
    pub comment: String,
    /// Whether the line belongs to an item under `#[cfg(test)]`.
    pub test: bool,
}

/// A Rust file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the repository's root.
    pub path: String,
    /// Its lines, in order.
    pub lines: Vec<Line>,
}

/// A position in the code of a [`Source`]: line and byte, both from 0.
pub type Place = (usize, usize);

impl Source {
    /// Reads `text`.
    pub fn parse(path: &str, text: &str) -> Source {
        let mut source = Source { path: path.to_string(), lines: Scanner::new(text).scan() };
        source.mark_tests();
        source
    }

    /// Whether the whole file is test code: below a `tests` directory, or a `tests.rs` of a module.
    pub fn is_test_file(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Whether the file belongs to the module `module` (`lib/core/src/log` means `lib/core/src/log.rs` and all below
    /// `lib/core/src/log/`).
    pub fn is_in(&self, module: &str) -> bool {
        let rest = self.path.strip_prefix(module);
        rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
    }

    /// Lines outside `#[cfg(test)]`, with their numbers from 1.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().filter(|(_, line)| !line.test).map(|(i, line)| (i + 1, line.code.as_str()))
    }

    /// The last line of the item that starts at `from`: the line of its closing brace, or of a `;` before any brace.
    /// The flag says whether there was a body. An item without an end extends to the end of the file.
    pub fn item_end(&self, from: Place) -> (usize, bool) {
        let (mut brackets, mut braces) = (0_i32, 0_i32);
        for (number, line) in self.lines.iter().enumerate().skip(from.0) {
            let skip = if number == from.0 { from.1 } else { 0 };
            for c in line.code[skip..].chars() {
                match c {
                    '(' | '[' => brackets += 1,
                    ')' | ']' => brackets -= 1,
                    '{' => braces += 1,
                    '}' => braces -= 1,
                    _ => {}
                }
                if c == '}' && braces == 0 {
                    return (number, true);
                }
                if c == ';' && braces == 0 && brackets == 0 {
                    return (number, false);
                }
            }
        }
        (self.lines.len().saturating_sub(1), true)
    }

    fn mark_tests(&mut self) {
        for number in 0..self.lines.len() {
            let code = &self.lines[number].code;
            let attribute = code.trim_start();
            if attribute.starts_with("#[cfg(test)]") || attribute.starts_with("#[cfg(all(test") {
                let (end, _) = self.item_end((number, code.len() - attribute.len()));
                self.lines[number..=end].iter_mut().for_each(|line| line.test = true);
            }
        }
    }
}

/// Where `word` stands in `code` as a whole word, as byte offsets.
pub fn word_places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// What a character belongs to.
#[derive(Clone, Copy)]
enum Class {
    Code,
    Comment,
    Literal,
}

/// Walks over the characters once.
struct Scanner {
    chars: Vec<char>,
    at: usize,
    lines: Vec<Line>,
}

impl Scanner {
    fn new(text: &str) -> Scanner {
        Scanner { chars: text.chars().collect(), at: 0, lines: vec![Line::default()] }
    }

    fn scan(mut self) -> Vec<Line> {
        while self.at < self.chars.len() {
            if self.sees("//") {
                self.take_while(Class::Comment, |scanner| scanner.chars[scanner.at] != '\n');
            } else if self.sees("/*") {
                self.block_comment();
            } else if let Some(hashes) = self.raw_string_hashes() {
                self.raw_string(hashes);
            } else if self.sees("\"") {
                self.quoted('"');
            } else if self.is_char_literal() {
                self.quoted('\'');
            } else {
                self.take(1, Class::Code);
            }
        }
        if self.lines.last().is_some_and(|line| line.code.is_empty() && line.comment.is_empty()) {
            self.lines.pop();
        }
        self.lines
    }

    fn sees(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    fn take(&mut self, count: usize, class: Class) {
        for _ in 0..count.min(self.chars.len() - self.at) {
            let c = self.chars[self.at];
            self.at += 1;
            let line = self.lines.last_mut().expect("starts with one line and none is removed while scanning");
            match class {
                _ if c == '\n' => self.lines.push(Line::default()),
                Class::Code => line.code.push(c),
                Class::Comment => {
                    line.comment.push(c);
                    line.code.push(' ');
                }
                Class::Literal => line.code.push(' '),
            }
        }
    }

    fn take_while(&mut self, class: Class, go_on: impl Fn(&Scanner) -> bool) {
        while self.at < self.chars.len() && go_on(self) {
            self.take(1, class);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            if self.sees("/*") {
                depth += 1;
                self.take(2, Class::Comment);
            } else if self.sees("*/") {
                depth -= 1;
                self.take(2, Class::Comment);
            } else {
                self.take(1, Class::Comment);
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// A string or character literal, from its quote to the next one that is not escaped. The quotes stay in the code.
    fn quoted(&mut self, quote: char) {
        self.take(1, Class::Code);
        while self.at < self.chars.len() && self.chars[self.at] != quote {
            let escaped = self.chars[self.at] == '\\';
            self.take(if escaped { 2 } else { 1 }, Class::Literal);
        }
        self.take(1, Class::Code);
    }

    /// How many hashes the raw string that starts here has (`r"`, `r#"`, `br##"` and so on); `None` if none starts
    /// here.
    fn raw_string_hashes(&self) -> Option<usize> {
        let follows_word = self.at > 0 && (self.chars[self.at - 1].is_alphanumeric() || self.chars[self.at - 1] == '_');
        let prefix = ["r", "br", "cr"].into_iter().find(|prefix| self.sees(prefix))?;
        let rest = &self.chars[self.at + prefix.len()..];
        let hashes = rest.iter().take_while(|&&c| c == '#').count();
        (!follows_word && rest.get(hashes) == Some(&'"')).then_some(hashes)
    }

    fn raw_string(&mut self, hashes: usize) {
        self.take_while(Class::Code, |scanner| scanner.chars[scanner.at] != '"');
        self.take(1, Class::Code);
        let end = format!("\"{}", "#".repeat(hashes));
        self.take_while(Class::Literal, |scanner| !scanner.sees(&end));
        self.take(end.len(), Class::Code);
    }

    /// Tells `'x'` and `'\n'` from the lifetime `'x`.
    fn is_char_literal(&self) -> bool {
        let next = |i: usize| self.chars.get(self.at + i);
        self.sees("'") && (next(1) == Some(&'\\') || next(2) == Some(&'\''))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<String> {
        Source::parse("x.rs", text).lines.into_iter().map(|line| line.code.trim_end().to_string()).collect()
    }

    #[test]
    fn comments_and_literals_leave_the_code() {
        assert_eq!(codes("a(); // b()\n/* c /* d */ e */ f()"), ["a();", &format!("{}f()", " ".repeat(18))]);
        assert_eq!(codes(r#"a("b\"c", 'd', '\'', b"e")"#), [r#"a("    ", ' ', '  ', b" ")"#]);
        assert_eq!(codes("a(r#\"b\"c\"#, br\"d\")"), ["a(r#\"   \"#, br\" \")"]);
        assert_eq!(codes("fn f<'a>(x: &'a str) {}"), ["fn f<'a>(x: &'a str) {}"]);
        assert_eq!(Source::parse("x.rs", "a(); // b()").lines[0].comment, "// b()");
    }

    #[test]
    fn an_item_under_cfg_test_is_a_test_region_and_what_follows_is_not() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { '{'; \"{\"; }\n}\nfn c() {}\n";
        let marks: Vec<bool> = Source::parse("x.rs", text).lines.iter().map(|line| line.test).collect();
        assert_eq!(marks, [false, true, true, true, true, false]);
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(word_places("fn fnord(fn_a: fn())", "fn").collect::<Vec<_>>(), [0, 15]);
    }
}
