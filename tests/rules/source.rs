//! The server's source as tokens, without comments, strings and unit tests.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::checked_in;

/// One file of the server.
pub struct Source {
    /// Below `server/src`, for messages.
    pub file: String,
    /// `["engine", "wait"]`.
    pub module: Vec<String>,
    /// All tokens but those of unit tests; a group is its delimiters with what is between them.
    pub tokens: Vec<Token>,
}

/// A token, as far as these rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A name or keyword.
    Word(String),
    /// One character of punctuation, or an opening or closing delimiter.
    Mark(char),
    /// A literal.
    Literal,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Word(word) => word == text,
            Self::Mark(mark) => text.len() == mark.len_utf8() && text.starts_with(*mark),
            Self::Literal => false,
        }
    }
}

/// Every file below `server/src`.
pub fn server() -> Vec<Source> {
    let root = checked_in::path("server/src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    files.iter().map(|file| read(&root, file)).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path
            .file_stem()
            .is_some_and(|stem| stem == "tests" || stem == "test_support");
        if path.is_dir() && !is_test {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            files.push(path);
        }
    }
}

fn read(root: &Path, file: &Path) -> Source {
    let relative = file.strip_prefix(root).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let stream: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", relative.display()));
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    Source {
        file: relative.display().to_string(),
        module: module_of(relative),
        tokens,
    }
}

fn module_of(relative: &Path) -> Vec<String> {
    relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .filter(|part| !matches!(part.as_str(), "mod" | "lib" | "main"))
        .collect()
}

/// Appends `stream` without the items under `#[cfg(test)]`.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let hash = matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == '#');
        if hash && trees.peek().is_some_and(is_cfg_test) {
            trees.next();
            skip_item(&mut trees);
            continue;
        }
        push(tree, tokens);
    }
}

fn is_cfg_test(tree: &TokenTree) -> bool {
    tree.to_string().replace(' ', "") == "[cfg(test)]"
}

/// An item ends with its braces or a semicolon.
fn skip_item(trees: &mut impl Iterator<Item = TokenTree>) {
    trees.find(|tree| {
        matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
            || matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ';')
    });
}

fn push(tree: TokenTree, tokens: &mut Vec<Token>) {
    match tree {
        TokenTree::Ident(ident) => tokens.push(Token::Word(ident.to_string())),
        TokenTree::Punct(punct) => tokens.push(Token::Mark(punct.as_char())),
        TokenTree::Literal(_) => tokens.push(Token::Literal),
        TokenTree::Group(group) => {
            let (open, close) = match group.delimiter() {
                Delimiter::Parenthesis => ('(', ')'),
                Delimiter::Brace => ('{', '}'),
                Delimiter::Bracket => ('[', ']'),
                // No text of its own: `write!` arguments and the like.
                Delimiter::None => (' ', ' '),
            };
            tokens.push(Token::Mark(open));
            flatten(group.stream(), tokens);
            tokens.push(Token::Mark(close));
        }
    }
}

impl Source {
    /// The same module with another text.
    pub fn with(&self, text: &str) -> Self {
        let mut tokens = Vec::new();
        flatten(text.parse().unwrap(), &mut tokens);
        Self {
            file: self.file.clone(),
            module: self.module.clone(),
            tokens,
        }
    }

    /// Every path that the file names, in `use` or in passing, as absolute segments: one that starts
    /// with `crate`, `self` or `super` comes out as `crate`, layer, ...
    pub fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let starts = matches!(self.tokens[at], Token::Word(_)) && !self.follows_colons(at);
            if starts {
                self.tree(&mut at, &[], &mut paths);
            } else {
                at += 1;
            }
        }
        paths.into_iter().map(|path| self.absolute(path)).collect()
    }

    fn follows_colons(&self, at: usize) -> bool {
        at >= 2 && self.tokens[at - 1].is(":") && self.tokens[at - 2].is(":")
    }

    /// Reads `a::b::{c, d::e}` from `at`, appending one path for each leaf.
    fn tree(&self, at: &mut usize, prefix: &[String], paths: &mut Vec<Vec<String>>) {
        let mut path = prefix.to_vec();
        loop {
            match self.tokens.get(*at) {
                Some(Token::Word(word)) => path.push(word.clone()),
                Some(Token::Mark('*')) => path.push("*".to_owned()),
                Some(Token::Mark('{')) => {
                    self.group(at, &path, paths);
                    return;
                }
                // `::<T>`: the path ends, what is in it is read on its own.
                _ => break,
            }
            *at += 1;
            if !self.colons(*at) {
                break;
            }
            *at += 2;
        }
        paths.push(path);
    }

    fn group(&self, at: &mut usize, prefix: &[String], paths: &mut Vec<Vec<String>>) {
        *at += 1;
        while !self.tokens[*at].is("}") {
            if matches!(self.tokens[*at], Token::Word(_)) {
                self.tree(at, prefix, paths);
            } else {
                *at += 1;
            }
        }
        *at += 1;
    }

    fn colons(&self, at: usize) -> bool {
        let mark = |at: usize| self.tokens.get(at).is_some_and(|token| token.is(":"));
        mark(at) && mark(at + 1)
    }

    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let own_name = path.first().is_some_and(|part| part == "self");
        if supers == 0 && !own_name {
            return path;
        }
        // An inline module would be one level deeper; the worst that does is to name a parent's sibling.
        let keep = self.module.len().saturating_sub(supers);
        let skip = supers.max(usize::from(own_name));
        std::iter::once("crate".to_owned())
            .chain(self.module[..keep].iter().cloned())
            .chain(path.into_iter().skip(skip))
            .collect()
    }

    /// The index of each place where `words` follow each other.
    pub fn sequences<'a>(&'a self, words: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
        (0..self.tokens.len()).filter(move |at| {
            words
                .iter()
                .enumerate()
                .all(|(offset, word)| self.tokens.get(at + offset).is_some_and(|t| t.is(word)))
        })
    }
}
