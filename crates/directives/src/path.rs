//! Where in a set something is.

use std::fmt::Write as _;

/// The longest piece of an unknown key that a path shows, in characters: enough to find it.
const MAX_KEY_CHARS: usize = 40;

/// The path of a field: `directives[0].match.host`; the whole is `$`.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Whole,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    pub(crate) fn show(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        if text.is_empty() { "$".to_owned() } else { text }
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Whole => {}
            Self::Index(parent, index) => {
                parent.write(text);
                let _ = write!(text, "[{index}]");
            }
            Self::Key(parent, key) => {
                parent.write(text);
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if !key.is_empty() && key.chars().count() <= MAX_KEY_CHARS && key.chars().all(plain) {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                } else {
                    let shown: String = key.chars().take(MAX_KEY_CHARS).collect();
                    let _ = write!(text, "[{shown:?}]");
                }
            }
        }
    }
}
