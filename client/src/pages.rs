//! Reading lists page by page.

use wharf_api::v1::{
    Container, ContainerStats, Event, Image, ListContainerProcessesRequest,
    ListContainerProcessesResponse, ListContainersRequest, ListContainersResponse,
    ListEventsRequest, ListEventsResponse, ListImagesRequest, ListImagesResponse, ListStatsRequest,
    ListStatsResponse, ProcessInfo,
};

use crate::client::Client;
use crate::error::Error;
use crate::rpc::Unary;

/// A request that lists something.
pub trait Paged: Unary {
    /// What it lists.
    type Item: Send;

    /// Asks for the page that the server named.
    fn set_page_token(&mut self, token: String);

    /// The items of a page, and the next page's token (empty on the last one).
    fn split(page: Self::Response) -> (Vec<Self::Item>, String);
}

macro_rules! paged {
    ($($request:ty => $response:ty, $field:ident: $item:ty;)*) => {$(
        impl Paged for $request {
            type Item = $item;

            fn set_page_token(&mut self, token: String) {
                self.page_token = token;
            }

            fn split(page: $response) -> (Vec<$item>, String) {
                (page.$field, page.next_page_token)
            }
        }
    )*};
}

paged! {
    ListContainersRequest => ListContainersResponse, containers: Container;
    ListContainerProcessesRequest => ListContainerProcessesResponse, processes: ProcessInfo;
    ListEventsRequest => ListEventsResponse, events: Event;
    ListImagesRequest => ListImagesResponse, images: Image;
    ListStatsRequest => ListStatsResponse, stats: ContainerStats;
}

/// The pages of a list. See [`Client::pages`].
#[derive(Debug)]
pub struct Pages<R> {
    client: Client,
    /// `None` after the last page.
    next: Option<R>,
}

impl<R: Paged> Pages<R> {
    pub(crate) fn new(client: Client, request: R) -> Self {
        Self {
            client,
            next: Some(request),
        }
    }

    /// The next page, which may be empty; `None` after the last one.
    ///
    /// # Errors
    /// As [`Client::call`]; asking again reads the same page.
    pub async fn next(&mut self) -> Result<Option<Vec<R::Item>>, Error> {
        let Some(request) = &self.next else {
            return Ok(None);
        };
        let (items, token) = R::split(self.client.call(request.clone()).await?);
        if token.is_empty() {
            self.next = None;
        } else if let Some(request) = &mut self.next {
            request.set_page_token(token);
        }
        Ok(Some(items))
    }

    /// All items of all pages that are left.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn collect(mut self) -> Result<Vec<R::Item>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }
}
