//! Every verb of the client, against a server with the built-in worker: `procpool serve`, then
//! `cargo run --example tour -p procpool-client`.

use std::error::Error;
use std::time::Duration;

use procpool_client::{CallError, Client, Encoding, Health, ItemErrorKind, iter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    tour(&address).await
}

/// Makes every kind of call to a server with the built-in worker.
///
/// # Panics
///
/// If an answer is not the expected one.
pub async fn tour(address: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(address).await?;
    assert_eq!(client.health().await?, Health::Serving);
    assert!(client.functions().await?.iter().any(|function| function.name == "is_prime"));

    one_call(&client).await?;
    lists(&client).await?;
    streams(&client).await?;
    failures(&client).await?;
    encodings(&client).await?;
    Ok(())
}

async fn one_call(client: &Client) -> Result<(), CallError> {
    let power: u64 = client.apply("power", (2, 10)).await?;
    assert_eq!(power, 1024);
    Ok(())
}

async fn lists(client: &Client) -> Result<(), CallError> {
    let primes: Vec<bool> = client.map("is_prime", 1..=5).chunk_size(2).await?;
    assert_eq!(primes, [false, true, true, false, true]);

    let powers: Vec<u64> = client.starmap("power", [(2, 10), (3, 3)]).await?;
    assert_eq!(powers, [1024, 27]);

    let nothing: Vec<bool> = client.map("is_prime", Vec::<u64>::new()).await?;
    assert!(nothing.is_empty());
    Ok(())
}

async fn streams(client: &Client) -> Result<(), CallError> {
    let mut results = client.imap::<u64>("echo", 0_u64..1000).await?;
    let mut expected = 0;
    while let Some(item) = results.try_next().await? {
        assert_eq!((item.index, item.result), (expected, Ok(expected)));
        expected += 1;
    }
    assert_eq!(expected, 1000);

    let mut results = client.imap_unordered::<u64>("echo", 0_u64..1000).await?;
    let mut sum = 0;
    while let Some(item) = results.try_next().await? {
        sum += item.result.unwrap_or_default();
    }
    assert_eq!(sum, 499_500);

    // There is no last item; dropping the stream ends the call.
    let mut endless = client.imap_stream::<u64>("echo", iter(0_u64..)).await?;
    while let Some(item) = endless.try_next().await? {
        assert_eq!(item.result, Ok(item.index));
        if item.index == 5000 {
            break;
        }
    }

    let mut powers = client.imap_stream::<u64>("power", iter([(2, 3), (2, 4)])).star().await?;
    assert_eq!(powers.try_next().await?.map(|item| item.result), Some(Ok(8)));
    assert_eq!(powers.try_next().await?.map(|item| item.result), Some(Ok(16)));
    assert_eq!(powers.try_next().await?, None);
    Ok(())
}

async fn failures(client: &Client) -> Result<(), CallError> {
    // A Map fails with the first item that fails ...
    let failed = client.map::<()>("fail", ["no luck"]).await;
    let Err(CallError::ItemFailed(error)) = failed else { panic!("the function fails, but {failed:?} came") };
    assert_eq!(error.index, 0);
    assert!(error.to_string().contains("no luck"));

    // ... or tells of each.
    let results = client.map::<u64>("sleep_ms", [0, 5000]).item_timeout(Duration::from_millis(200)).collect_errors();
    let results = results.await?;
    assert!(results[0].is_ok());
    let timeout = results[1].as_ref().expect_err("five seconds are over the limit");
    assert!(matches!(timeout.kind, ItemErrorKind::ItemTimeout { .. }));

    let not_found = client.apply::<u64>("powr", (2, 10)).await;
    let Err(CallError::FunctionNotFound { nearest, .. }) = not_found else { panic!("{not_found:?}") };
    assert_eq!(nearest.first().map(String::as_str), Some("power"));

    let late = client.map::<u64>("sleep_ms", [5000]).timeout(Duration::from_millis(200)).await;
    assert!(matches!(late, Err(CallError::DeadlineExceeded { .. })), "{late:?}");
    Ok(())
}

async fn encodings(client: &Client) -> Result<(), CallError> {
    let blobs = client.map_bytes("echo_bytes", [&b"\x00\xff"[..], b""]).await?;
    assert_eq!(blobs, [&b"\x00\xff"[..], b""]);

    // A double cannot hold this integer; the client says so rather than round it. JSON text can.
    let large = (1_u64 << 53) + 1;
    assert!(matches!(client.map::<u64>("echo", [large]).await, Err(CallError::Encode { index: 0, .. })));
    let exact: Vec<u64> = client.with_encoding(Encoding::Json).map("echo", [large]).await?;
    assert_eq!(exact, [large]);
    Ok(())
}
