// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

// Reason says why a call failed: the name of an ErrorReason of the contract without its prefix.
type Reason string

// The reasons. A server newer than this client may give others.
const (
	// INVALID_ARGUMENT: BadRequest lists the fields and what would be right.
	ReasonInvalidField Reason = "INVALID_FIELD"
	// INVALID_ARGUMENT: the bytes are not a message of the method's type, or not UTF-8.
	ReasonUndecodableRequest Reason = "UNDECODABLE_REQUEST"
	// INVALID_ARGUMENT: the page token was not made by this method for this request.
	ReasonInvalidPageToken Reason = "INVALID_PAGE_TOKEN"
	// NOT_FOUND: the session does not exist in the caller's scope.
	ReasonSessionNotFound Reason = "SESSION_NOT_FOUND"
	// ALREADY_EXISTS: the session id is taken.
	ReasonSessionExists Reason = "SESSION_EXISTS"
	// NOT_FOUND: the fact does not exist in the caller's scope.
	ReasonFactNotFound Reason = "FACT_NOT_FOUND"
	// ALREADY_EXISTS: the fact id is taken.
	ReasonFactExists Reason = "FACT_EXISTS"
	// NOT_FOUND: the episode does not exist in the caller's scope.
	ReasonEpisodeNotFound Reason = "EPISODE_NOT_FOUND"
	// NOT_FOUND: the cache entry does not exist, or has expired.
	ReasonCacheEntryNotFound Reason = "CACHE_ENTRY_NOT_FOUND"
	// NOT_FOUND: the turn does not exist in the caller's scope.
	ReasonTurnNotFound Reason = "TURN_NOT_FOUND"
	// NOT_FOUND: the API key does not exist in the caller's tenant.
	ReasonAPIKeyNotFound Reason = "API_KEY_NOT_FOUND"
	// NOT_FOUND: the job does not exist.
	ReasonJobNotFound Reason = "JOB_NOT_FOUND"
	// ABORTED: another writer was first; the metadata `current_revision` says where it is now.
	ReasonRevisionMismatch Reason = "REVISION_MISMATCH"
	// FAILED_PRECONDITION: this request_id belongs to another request.
	ReasonRequestIDReused Reason = "REQUEST_ID_REUSED"
	// ABORTED: another turn of the session is running.
	ReasonTurnInProgress Reason = "TURN_IN_PROGRESS"
	// OUT_OF_RANGE: changes before the token are no longer kept; read anew, then watch.
	ReasonResumeTokenExpired Reason = "RESUME_TOKEN_EXPIRED"
	// DEADLINE_EXCEEDED: the index did not reach `min_revision` in time.
	ReasonRevisionNotIndexed Reason = "REVISION_NOT_INDEXED"
	// UNAUTHENTICATED: the call carries no credential.
	ReasonCredentialMissing Reason = "CREDENTIAL_MISSING"
	// UNAUTHENTICATED: the credential is unknown, expired or revoked.
	ReasonCredentialInvalid Reason = "CREDENTIAL_INVALID"
	// PERMISSION_DENIED: the method needs a higher role.
	ReasonRoleRequired Reason = "ROLE_REQUIRED"
	// PERMISSION_DENIED: the request names a user that is not the credential's.
	ReasonOtherUser Reason = "OTHER_USER"
	// RESOURCE_EXHAUSTED: a quota is used up; RetryInfo says when to try again.
	ReasonQuotaExceeded Reason = "QUOTA_EXCEEDED"
	// UNAVAILABLE: a store the call depends on is down.
	ReasonStoreUnavailable Reason = "STORE_UNAVAILABLE"
	// UNAVAILABLE: the model's API cannot be reached or broke off.
	ReasonModelUnavailable Reason = "MODEL_UNAVAILABLE"
	// UNAVAILABLE: the model's API is overloaded.
	ReasonModelOverloaded Reason = "MODEL_OVERLOADED"
	// RESOURCE_EXHAUSTED: the model's API limits our rate; RetryInfo says when to try again.
	ReasonModelRateLimited Reason = "MODEL_RATE_LIMITED"
	// FAILED_PRECONDITION: the model declined to answer.
	ReasonModelRefused Reason = "MODEL_REFUSED"
	// INVALID_ARGUMENT: the model's API found the request wrong.
	ReasonModelRejected Reason = "MODEL_REJECTED"
	// INVALID_ARGUMENT: the prompt does not fit the model's context.
	ReasonContextTooLong Reason = "CONTEXT_TOO_LONG"
	// FAILED_PRECONDITION: the model's API refuses the server's key.
	ReasonModelCredential Reason = "MODEL_CREDENTIAL"
	// DEADLINE_EXCEEDED: the turn took longer than `turn_timeout`.
	ReasonTurnTimedOut Reason = "TURN_TIMED_OUT"
	// CANCELLED: the turn was cancelled.
	ReasonTurnCancelled Reason = "TURN_CANCELLED"
	// UNIMPLEMENTED: the contract has this method, this server not yet.
	ReasonNotImplemented Reason = "NOT_IMPLEMENTED"
	// UNAVAILABLE: the server is draining; another one will answer.
	ReasonShuttingDown Reason = "SHUTTING_DOWN"
	// DEADLINE_EXCEEDED: the call's deadline passed; 5 minutes for a call without one.
	ReasonDeadlinePassed Reason = "DEADLINE_PASSED"
	// FAILED_PRECONDITION: the tenant has not opted in to cache scope GLOBAL.
	ReasonGlobalScopeOff Reason = "GLOBAL_SCOPE_OFF"
	// INTERNAL: a defect; RequestInfo carries the request id to look for in the server's log.
	ReasonInternal Reason = "INTERNAL"
)
