"""The generated code of the API, for those who call a server with grpcio: `pip install procpool[grpc]`."""
