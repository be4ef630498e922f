//! prost's codec, with buffers that grow as they are needed.
//!
//! By default a call takes 8 KiB for what it may receive and 8 KiB for what it may send before it has done either. And what
//! is kept of a received message keeps the buffer that it lies in: here that is its own.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// As the library has it: so much is collected before it is handed on.
const YIELD_THRESHOLD: usize = 32 << 10;

/// A codec that takes no memory in advance.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeanCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Codec for LeanCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(0, YIELD_THRESHOLD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(0, YIELD_THRESHOLD))
    }
}
