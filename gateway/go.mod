module github.com/recollect-ai/recollect/gateway

go 1.26.0

require (
	connectrpc.com/cors v0.1.0
	connectrpc.com/vanguard v0.4.0
	github.com/recollect-ai/recollect/clients/go v0.1.0
	github.com/rs/cors v1.11.1
)

require (
	connectrpc.com/connect v1.19.1 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
	google.golang.org/grpc v1.85.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/recollect-ai/recollect/clients/go => ../clients/go
