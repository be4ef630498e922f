//! The functions of a worker.

use std::any::type_name;
use std::error::Error;
use std::fmt;

use bytes::Bytes;
use procpool_ipc::proto;
use procpool_items::value::{self, NonFinite};
use procpool_items::{Records, json};
use serde::Serialize;

use crate::arguments::Arguments;
use crate::encoding::Encoding;
use crate::failure::Failure;
use crate::input::{Input, Style};

/// The longest name of a function, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The result of a function.
#[derive(Debug)]
pub(crate) enum Output {
    /// It is in the lent buffer.
    InBuffer,
    /// It is here.
    Owned(Bytes),
}

/// What a call can use for its result.
pub(crate) struct Lent<'a> {
    /// The items of the chunk; a result may be a slice of them.
    pub(crate) items: &'a Bytes,
    /// The buffer for the result, unless the function returns bytes.
    pub(crate) buffer: &'a mut Vec<u8>,
    /// How NaN and the infinities are encoded.
    non_finite: NonFinite,
}

type Call = dyn FnMut(Input<'_>, &mut Lent<'_>) -> Result<Output, Failure> + Send;

/// A function of a worker, and its description.
pub struct Function {
    pub(crate) description: proto::Function,
    non_finite: NonFinite,
    takes_kwargs: bool,
    call: Box<Call>,
}

impl Function {
    /// Returns a function that does not return a `Result`.
    ///
    /// # Panics
    ///
    /// If it returns a `Result`: that is for [`Function::fallible`]. Or if the name is empty, longer than 256 bytes, or
    /// has control characters.
    pub fn new<A, F>(name: impl Into<String>, mut function: F) -> Self
    where
        A: Arguments,
        F: Callable<A>,
        F::Output: Serialize,
    {
        let name = name.into();
        assert!(
            !type_name::<F::Output>().starts_with("core::result::Result<"),
            "the function {name:?} returns a Result: register it with try_function or Function::fallible"
        );
        Self::from_call(name, move |input, lent| {
            let arguments = A::from_input(input)?;
            encode(input.encoding, &function.call(arguments), lent)
        })
    }

    /// Returns a function that returns a `Result`. An error fails the item with its type, its message and its causes.
    ///
    /// # Panics
    ///
    /// If the name is empty, longer than 256 bytes, or has control characters.
    pub fn fallible<A, F, T, E>(name: impl Into<String>, mut function: F) -> Self
    where
        A: Arguments,
        F: Callable<A, Output = Result<T, E>>,
        T: Serialize,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::from_call(name.into(), move |input, lent| {
            let arguments = A::from_input(input)?;
            let result = function.call(arguments).map_err(Failure::raised)?;
            encode(input.encoding, &result, lent)
        })
    }

    /// Returns a function from bytes to bytes, for blobs whose content type is not `application/json`. Nothing is
    /// copied if it takes a part of the blob and returns [`Bytes`] or a `Vec<u8>`.
    ///
    /// # Panics
    ///
    /// If the name is empty, longer than 256 bytes, or has control characters.
    pub fn bytes<F, T, E>(name: impl Into<String>, mut function: F) -> Self
    where
        F: FnMut(Bytes) -> Result<T, E> + Send + 'static,
        T: Into<Bytes>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::from_call(name.into(), move |input, lent| {
            if input.common.is_some() {
                return Err(Failure::invalid_common("the function takes no common argument"));
            }
            let blob = lent.items.slice_ref(blob_of(input)?);
            Ok(Output::Owned(function(blob).map_err(Failure::raised)?.into()))
        })
    }

    /// Like [`Function::bytes`], for a function that takes a common argument, also bytes, before each item.
    ///
    /// # Panics
    ///
    /// If the name is empty, longer than 256 bytes, or has control characters.
    pub fn bytes_with_common<F, T, E>(name: impl Into<String>, mut function: F) -> Self
    where
        F: FnMut(Bytes, Bytes) -> Result<T, E> + Send + 'static,
        T: Into<Bytes>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self::from_call(name.into(), move |input, lent| {
            let common = input.common.filter(|common| common.encoding() == Encoding::Bytes).ok_or_else(|| {
                Failure::invalid_common("the function takes bytes in common: call it with a common_blob")
            })?;
            let blob = lent.items.slice_ref(blob_of(input)?);
            Ok(Output::Owned(function(common.content(), blob).map_err(Failure::raised)?.into()))
        })
    }

    /// Returns a function that gets the undecoded item and writes its result into a buffer, in the encoding of the
    /// item: an encoded `google.protobuf.Value`, JSON text, or bytes. For adapters that know only at run time what they
    /// call.
    ///
    /// # Panics
    ///
    /// If the name is empty, longer than 256 bytes, or has control characters.
    pub fn dynamic<F>(name: impl Into<String>, mut function: F) -> Self
    where
        F: FnMut(Input<'_>, &mut Vec<u8>) -> Result<(), Failure> + Send + 'static,
    {
        Self::from_call(name.into(), move |input, lent| function(input, lent.buffer).map(|()| Output::InBuffer))
    }

    fn from_call(
        name: String,
        call: impl FnMut(Input<'_>, &mut Lent<'_>) -> Result<Output, Failure> + Send + 'static,
    ) -> Self {
        assert!(
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control),
            "{name:?} is no name for a function: use 1 to {MAX_NAME_BYTES} bytes without control characters"
        );
        let description = proto::Function { name, ..proto::Function::default() };
        Self { description, non_finite: NonFinite::Error, takes_kwargs: false, call: Box::new(call) }
    }

    /// Sets the documentation.
    #[must_use]
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.description.doc = doc.into();
        self
    }

    /// Sets the signature, such as `(base, exponent)`.
    #[must_use]
    pub fn signature(mut self, signature: impl Into<String>) -> Self {
        self.description.signature = signature.into();
        self
    }

    /// Sets an example request as JSON, to paste into `grpcurl -d`: for `StarMap` if each of its values is a list and
    /// the function takes several arguments (beside a common one), otherwise for Map.
    #[must_use]
    pub fn example(mut self, example: impl Into<String>) -> Self {
        self.description.example = example.into();
        self
    }

    /// Allows more than one execution per item, so that the pool may retry it when a worker dies.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.description.idempotent = true;
        self
    }

    /// Sends NaN and the infinities in results as null. Otherwise they fail the item, since JSON has no such numbers.
    /// Has no effect on a function that writes its own result.
    #[must_use]
    pub fn nan_as_null(mut self) -> Self {
        self.non_finite = NonFinite::Null;
        self
    }

    /// Has the function take keyword arguments, in [`Input::kwargs`]; otherwise a call with any fails. For functions
    /// that see the undecoded input.
    #[must_use]
    pub fn takes_kwargs(mut self) -> Self {
        self.takes_kwargs = true;
        self
    }

    /// Runs the function for an item.
    pub(crate) fn call(&mut self, input: Input<'_>, items: &Bytes, buffer: &mut Vec<u8>) -> Result<Output, Failure> {
        if !input.kwargs.is_empty() && !self.takes_kwargs {
            return Err(Failure::invalid_kwargs(
                "functions of this worker take no keyword arguments: give them by position",
            ));
        }
        (self.call)(input, &mut Lent { items, buffer, non_finite: self.non_finite })
    }

    /// Returns the name by which it is called.
    pub fn name(&self) -> &str {
        &self.description.name
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Function").field("description", &self.description).finish_non_exhaustive()
    }
}

/// A function or closure with up to eight arguments.
pub trait Callable<A>: Send + 'static {
    /// The type of the result.
    type Output;

    /// Calls the function.
    fn call(&mut self, arguments: A) -> Self::Output;
}

macro_rules! impl_callable {
    ($($argument:ident $name:ident),*) => {
        impl<Function, Out, $($argument),*> Callable<($($argument,)*)> for Function
        where
            Function: FnMut($($argument),*) -> Out + Send + 'static,
        {
            type Output = Out;

            fn call(&mut self, ($($name,)*): ($($argument,)*)) -> Out {
                self($($name),*)
            }
        }
    };
}

impl_callable!();
impl_callable!(A a);
impl_callable!(A a, B b);
impl_callable!(A a, B b, C c);
impl_callable!(A a, B b, C c, D d);
impl_callable!(A a, B b, C c, D d, E e);
impl_callable!(A a, B b, C c, D d, E e, F f);
impl_callable!(A a, B b, C c, D d, E e, F f, G g);
impl_callable!(A a, B b, C c, D d, E e, F f, G g, H h);

/// Encodes a result into the lent buffer.
fn encode<T: Serialize>(encoding: Encoding, result: &T, lent: &mut Lent<'_>) -> Result<Output, Failure> {
    let encoded = match encoding {
        Encoding::Values => value::append_with(result, lent.non_finite, lent.buffer).map_err(|error| error.to_string()),
        Encoding::Json => json::append_with(result, lent.non_finite, lent.buffer).map_err(|error| error.to_string()),
        Encoding::Bytes => Err("the function returns a value, and bytes were asked for".to_owned()),
    };
    encoded.map(|()| Output::InBuffer).map_err(Failure::not_encodable)
}

fn blob_of(input: Input<'_>) -> Result<&[u8], Failure> {
    if input.encoding != Encoding::Bytes {
        return Err(Failure::invalid_item(
            "the function takes bytes: send blobs with content_type application/octet-stream",
        ));
    }
    match input.style {
        Style::Map => Ok(input.content),
        Style::Star => Err(Failure::invalid_item("the function takes bytes: call it with map, imap or apply")),
        Style::Apply => {
            let mut blobs = Records::new(input.content);
            match (blobs.next(), blobs.next()) {
                (Some(Ok(blob)), None) => Ok(blob),
                _ => Err(Failure::invalid_item("the function takes bytes: give it exactly one blob")),
            }
        }
    }
}
