//! A database is opened by whom it belongs to.

use super::*;
use holdfast_volume_controller::store::{Expected, OpenError, StoreId};
use sqlx::Executor;

async fn open(place: &Place, expected: Expected) -> Result<(), OpenError> {
    let mut config = place.config();
    config.expected = expected;
    Store::open(config).await?.close().await;
    Ok(())
}

async fn has_schema(place: &Place) -> bool {
    place.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'").await == 1
}

#[tokio::test]
async fn a_store_is_made_under_its_name_and_known_by_it() {
    let Some(place) = Place::postgres().await else { return };
    let (mine, other) = (StoreId::random(), StoreId::random());
    open(&place, Expected::Mine(mine)).await.unwrap();
    for expected in [Expected::Mine(mine), Expected::Existing(mine), Expected::Any] {
        open(&place, expected).await.unwrap();
    }
    for expected in [Expected::Mine(other), Expected::Existing(other)] {
        let error = open(&place, expected).await.unwrap_err();
        let OpenError::Another { found, expected, .. } = &error else { panic!("{error}") };
        assert_eq!((*found, *expected), (mine, other));
        assert!(!error.is_retryable());
    }
    open(&place, Expected::Existing(mine)).await.expect("nothing has changed by that");
}

#[tokio::test]
async fn an_emptied_database_is_not_filled_again() {
    let Some(place) = Place::postgres().await else { return };
    let mine = StoreId::random();
    let error = open(&place, Expected::Existing(mine)).await.unwrap_err();
    assert!(matches!(error, OpenError::Absent { expected, .. } if expected == mine), "{error}");
    assert!(!has_schema(&place).await, "nothing was made");
    open(&place, Expected::Mine(mine)).await.unwrap();
    for sql in ["DROP SCHEMA holdfast CASCADE", "CREATE SCHEMA holdfast"] {
        place.connect().await.execute(sql).await.unwrap();
        let error = open(&place, Expected::Existing(mine)).await.unwrap_err();
        assert!(matches!(error, OpenError::Absent { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_the_database_gave_is_kept() {
    let Some(place) = Place::postgres().await else { return };
    open(&place, Expected::Any).await.unwrap();
    let error = open(&place, Expected::Mine(StoreId::random())).await.unwrap_err();
    let OpenError::Another { found, .. } = error else { panic!("{error}") };
    open(&place, Expected::Existing(found)).await.unwrap();
}
