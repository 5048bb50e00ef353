//! `etcdserverpb.Auth`: that there are no users and roles.

use tidewatch_proto::etcdserverpb as pb;
use tonic::{Request, Status};

use crate::api::{Answer, EtcdApi};
use crate::error;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct AuthService {
    pub(crate) api: EtcdApi,
}

/// Calls that are not there.
macro_rules! without_users {
    ($($call:ident: $request:ident -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl pb::auth_server::Auth for AuthService {
            async fn auth_status(
                &self,
                _: Request<pb::AuthStatusRequest>,
            ) -> Answer<pb::AuthStatusResponse> {
                Ok(pb::AuthStatusResponse {
                    header: Some(self.api.current().await?),
                    ..pb::AuthStatusResponse::default()
                }
                .into())
            }

            /// Clients that were given a user ask this first, and go on without one when told so.
            async fn authenticate(
                &self,
                _: Request<pb::AuthenticateRequest>,
            ) -> Answer<pb::AuthenticateResponse> {
                Err(error::AUTH_NOT_ENABLED.into())
            }

            $(
                async fn $call(&self, _: Request<pb::$request>) -> Answer<pb::$response> {
                    Err(no_users())
                }
            )*
        }
    };
}

without_users! {
    auth_enable: AuthEnableRequest -> AuthEnableResponse;
    auth_disable: AuthDisableRequest -> AuthDisableResponse;
    user_add: AuthUserAddRequest -> AuthUserAddResponse;
    user_get: AuthUserGetRequest -> AuthUserGetResponse;
    user_list: AuthUserListRequest -> AuthUserListResponse;
    user_delete: AuthUserDeleteRequest -> AuthUserDeleteResponse;
    user_change_password: AuthUserChangePasswordRequest -> AuthUserChangePasswordResponse;
    user_grant_role: AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse;
    user_revoke_role: AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse;
    role_add: AuthRoleAddRequest -> AuthRoleAddResponse;
    role_get: AuthRoleGetRequest -> AuthRoleGetResponse;
    role_list: AuthRoleListRequest -> AuthRoleListResponse;
    role_delete: AuthRoleDeleteRequest -> AuthRoleDeleteResponse;
    role_grant_permission: AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse;
    role_revoke_permission: AuthRoleRevokePermissionRequest -> AuthRoleRevokePermissionResponse;
}

fn no_users() -> Status {
    error::unimplemented(
        "Tidewatch has no users and roles; who may call it is decided by where the server listens",
    )
}
