//! Messages that are partly encoded before it is known whom they are for.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// A message and more fields of it, which were encoded before. On the wire they are one message: the
/// order of fields does not matter there.
#[derive(Clone, Debug)]
pub struct Prepared<M, R = Bytes> {
    /// The fields that are this message's own.
    pub head: M,
    /// The fields that it shares with others: what holds their bytes.
    pub rest: R,
}

impl<M, R: Default> From<M> for Prepared<M, R> {
    fn from(head: M) -> Self {
        let rest = R::default();
        Self { head, rest }
    }
}

/// What is gathered before it goes to the transport, and what is allocated for it at first: tonic's
/// own choices.
const YIELD_BYTES: usize = 32 << 10;
const ENCODE_BYTES: usize = 8 << 10;

/// Requests of those who are sent much are small and seldom.
const DECODE_BYTES: usize = 1 << 10;

/// A server's codec: [`Prepared`] answers of type `M` to requests of type `D`.
#[derive(Debug)]
pub struct PreparedCodec<M, D, R = Bytes>(PhantomData<(M, D, R)>);

impl<M, D, R> Default for PreparedCodec<M, D, R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M, D, R> Codec for PreparedCodec<M, D, R>
where
    M: Message + 'static,
    D: Message + Default + 'static,
    R: AsRef<[u8]> + Send + 'static,
{
    type Encode = Prepared<M, R>;
    type Decode = D;
    type Encoder = PreparedEncoder<M, R>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> PreparedEncoder<M, R> {
        PreparedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<D> {
        ProstDecoder::new(BufferSettings::new(DECODE_BYTES, YIELD_BYTES))
    }
}

/// The encoding half of [`PreparedCodec`].
#[derive(Debug)]
pub struct PreparedEncoder<M, R = Bytes>(PhantomData<(M, R)>);

impl<M: Message, R: AsRef<[u8]>> Encoder for PreparedEncoder<M, R> {
    type Item = Prepared<M, R>;
    type Error = Status;

    fn encode(&mut self, message: Prepared<M, R>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let Prepared { head, rest } = message;
        let rest = rest.as_ref();
        dst.reserve(head.encoded_len() + rest.len());
        head.encode(dst)
            .map_err(|error| Status::internal(error.to_string()))?;
        dst.put_slice(rest);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ENCODE_BYTES, YIELD_BYTES)
    }
}
