//! The product code of a crate as syntax: its modules, what they import and which paths they mention.
//!
//! What only tests and fuzzing compile is left out. Names are not resolved as the compiler does: a glob stands for the
//! module, and what a macro generates is not seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, File, Item, ItemUse, Meta, Token, UseTree, Visibility};

/// The modules of a crate, the root first, and its files with their lines of code.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) modules: Vec<Module>,
    pub(crate) files: Vec<(PathBuf, usize)>,
}

/// A module.
#[derive(Default)]
pub(crate) struct Module {
    /// Its path in the crate; empty for the root.
    pub(crate) path: Vec<String>,
    pub(crate) file: PathBuf,
    pub(crate) imports: Vec<Import>,
    pub(crate) mentions: Vec<Mention>,
}

/// One name of a `use`.
pub(crate) struct Import {
    /// The name it has here; `*` for a glob.
    pub(crate) name: String,
    pub(crate) is_reexport: bool,
    pub(crate) mention: Mention,
}

/// A path in the code, and its line in the file.
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

impl Sources {
    /// Reads the crate with this root, such as `src/lib.rs`.
    ///
    /// # Errors
    ///
    /// If a file can't be read or parsed.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let mut sources = Self::default();
        sources.add_file(root, parent(root), Vec::new())?;
        Ok(sources)
    }

    fn add_file(&mut self, file: &Path, children: &Path, path: Vec<String>) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
        self.add_text(&text, file, children, path)
    }

    /// Adds the text of a file, whose child modules are in the folder `children`.
    pub(crate) fn add_text(&mut self, text: &str, file: &Path, children: &Path, path: Vec<String>) -> Result<()> {
        let mut syntax = syn::parse_file(text).with_context(|| format!("could not parse {}", file.display()))?;
        if is_product(&syntax.attrs) {
            WithoutTests.visit_file_mut(&mut syntax);
            let mut lines = BTreeSet::new();
            find_lines(syntax.to_token_stream(), &mut lines);
            self.files.push((file.to_owned(), lines.len()));
            self.add_module(syntax.items, file, children, path)?;
        }
        Ok(())
    }

    fn add_module(&mut self, items: Vec<Item>, file: &Path, children: &Path, path: Vec<String>) -> Result<()> {
        let (mut module, mut submodules) = (Module { path, file: file.to_owned(), ..Module::default() }, Vec::new());
        for item in items {
            match item {
                Item::Mod(submodule) => submodules.push(submodule),
                mut item => module.add_item(&mut item),
            }
        }
        let parent = module.path.clone();
        self.modules.push(module);
        for submodule in submodules {
            let name = submodule.ident.to_string();
            let folder = children.join(&name);
            let candidates = [children.join(format!("{name}.rs")), folder.join("mod.rs")];
            let path = [&parent[..], &[name]].concat();
            if let Some((_, items)) = submodule.content {
                self.add_module(items, file, &folder, path)?;
            } else {
                let found = candidates.iter().find(|candidate| candidate.exists());
                self.add_file(found.with_context(|| format!("{} has no file", path.join("::")))?, &folder, path)?;
            }
        }
        Ok(())
    }
}

impl Module {
    /// Returns its path as text.
    pub(crate) fn name(&self) -> String {
        if self.path.is_empty() { "the root".to_owned() } else { self.path.join("::") }
    }

    fn add_item(&mut self, item: &mut Item) {
        let mut uses = Uses::default();
        uses.visit_item_mut(item);
        for item in uses.0 {
            let is_reexport = !matches!(item.vis, Visibility::Inherited);
            let line = line_of(item.use_token.span);
            flatten(&item.tree, &mut Vec::new(), &mut |name, path| {
                let mention = Mention { path: path.to_vec(), line };
                self.imports.push(Import { name, is_reexport, mention });
            });
        }
        if !matches!(item, Item::Use(_)) {
            find_mentions(item.to_token_stream(), &mut self.mentions);
        }
    }
}

fn parent(file: &Path) -> &Path {
    file.parent().expect("a file is in a folder")
}

fn line_of(span: Span) -> usize {
    span.start().line
}

/// Calls `found` with the name and the path of everything that a `use` imports.
fn flatten(tree: &UseTree, path: &mut Vec<String>, found: &mut dyn FnMut(String, &[String])) {
    let depth = path.len();
    let mut leaf = |path: &mut Vec<String>, name: String, last: String| {
        if last != "self" {
            path.push(last);
        }
        let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name };
        found(name, path);
    };
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, found);
        }
        UseTree::Name(inner) => leaf(path, inner.ident.to_string(), inner.ident.to_string()),
        UseTree::Rename(inner) => leaf(path, inner.rename.to_string(), inner.ident.to_string()),
        UseTree::Glob(_) => found("*".to_owned(), path),
        UseTree::Group(inner) => inner.items.iter().for_each(|tree| flatten(tree, path, found)),
    }
    path.truncate(depth);
}

/// Finds the paths in code, in macros as well.
fn find_mentions(tokens: TokenStream, found: &mut Vec<Mention>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_punct =
        |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Group(group) => {
                // `pub(crate)` is no mention of the root.
                let is_visibility = at > 0
                    && group.delimiter() == Delimiter::Parenthesis
                    && matches!(&tokens[at - 1], TokenTree::Ident(ident) if ident == "pub");
                if !is_visibility {
                    find_mentions(group.stream(), found);
                }
            }
            TokenTree::Ident(ident) => {
                let is_member = at > 0 && is_punct(at - 1, '.') && !(at > 1 && is_punct(at - 2, '.'));
                let mut path = vec![ident.to_string()];
                while is_punct(at + 1, ':') && is_punct(at + 2, ':') {
                    let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                    path.push(next.to_string());
                    at += 3;
                }
                if !is_member {
                    found.push(Mention { path, line: line_of(ident.span()) });
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Finds the lines that have code: no comments, which documentation is too.
fn find_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut of = |span: Span| lines.extend(span.start().line..=span.end().line);
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_doc =
        |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.stream().to_string().starts_with("doc ="));
    let mut groups = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let next =
            tokens[at + 1..].iter().find(|next| !matches!(next, TokenTree::Punct(punct) if punct.as_char() == '!'));
        match token {
            TokenTree::Punct(punct) if "#!".contains(punct.as_char()) && next.is_some_and(is_doc) => {}
            TokenTree::Group(_) if is_doc(token) => {}
            TokenTree::Group(group) => {
                of(group.span_open());
                of(group.span_close());
                groups.push(group.stream());
            }
            other => of(other.span()),
        }
    }
    for group in groups {
        find_lines(group, lines);
    }
}

/// Collects every `use`, in functions as well.
#[derive(Default)]
struct Uses(Vec<ItemUse>);

impl VisitMut for Uses {
    fn visit_item_use_mut(&mut self, item: &mut ItemUse) {
        self.0.push(item.clone());
    }
}

/// Removes what only tests and fuzzing compile.
struct WithoutTests;

impl VisitMut for WithoutTests {
    fn visit_file_mut(&mut self, file: &mut File) {
        file.items.retain(is_for_product);
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(is_for_product);
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, item: &mut syn::ItemImpl) {
        item.items.retain(is_for_product);
        visit_mut::visit_item_impl_mut(self, item);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(is_for_product);
        visit_mut::visit_block_mut(self, block);
    }
}

/// Tells whether an item, of any kind, is compiled for others than tests.
fn is_for_product(item: &impl ToTokens) -> bool {
    let parser = |input: ParseStream<'_>| {
        let attributes = Attribute::parse_outer(input)?;
        input.parse::<TokenStream>().map(|_| attributes)
    };
    parser.parse2(item.to_token_stream()).map_or(true, |attributes| is_product(&attributes))
}

fn is_product(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .all(|attribute| attribute.parse_args::<Meta>().map_or(true, |condition| outcomes(&condition).0))
}

/// Returns whether a condition can be true, and whether it can be false, where there is neither test nor fuzzing.
fn outcomes(condition: &Meta) -> (bool, bool) {
    let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
    let inner = match condition {
        Meta::List(list) => list.parse_args_with(parse).unwrap_or_default().iter().map(outcomes).collect(),
        _ => Vec::new(),
    };
    let path = condition.path();
    match () {
        () if path.is_ident("test") || path.is_ident("fuzzing") => (false, true),
        () if path.is_ident("not") => inner.first().map_or((true, true), |(yes, no)| (*no, *yes)),
        () if path.is_ident("any") => (inner.iter().any(|(yes, _)| *yes), inner.iter().all(|(_, no)| *no)),
        () if path.is_ident("all") => (inner.iter().all(|(yes, _)| *yes), inner.iter().any(|(_, no)| *no)),
        () => (true, true),
    }
}
