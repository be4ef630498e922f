//! What a function is called with, before it is decoded.

use crate::common::RawCommon;
use crate::encoding::Encoding;

/// How a function is called with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `f(item)`
    Map,
    /// `f(*item)`
    Star,
    /// `f(*args)`: the content is the encoded list of the arguments.
    Apply,
}

/// The undecoded input of a function.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The encoding of the item and of its result.
    pub encoding: Encoding,
    /// How the function is called with it.
    pub style: Style,
    /// The item. In the style [`Style::Apply`], the encoded list of the arguments.
    pub content: &'a [u8],
    /// In the style [`Style::Apply`], the keyword arguments: an encoded `google.protobuf.Struct`. Empty without any, and
    /// always for a function that does not take them ([`Function::takes_kwargs`](crate::Function::takes_kwargs)).
    pub kwargs: &'a [u8],
    /// The common argument, which goes before those of the item; always `None` in the style [`Style::Apply`].
    pub common: Option<&'a RawCommon>,
    /// The length of all items of the chunk, which are in memory while one of them runs.
    pub chunk_bytes: usize,
    /// The longest result that fits a frame, in bytes.
    pub max_result_bytes: usize,
}
