"""Takes TLS off: `tls.py CERTIFICATE KEY HOST PORT` says where it listens, and passes on what comes."""

import asyncio
import ssl
import sys

CERTIFICATE, KEY, HOST, PORT = sys.argv[1:]


async def pass_on(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def both(reader, writer):
    upstream = await asyncio.open_connection(HOST, int(PORT))
    await asyncio.gather(pass_on(reader, upstream[1]), pass_on(upstream[0], writer))


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    server = await asyncio.start_server(both, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port} by TLS", flush=True)
    await server.serve_forever()


asyncio.run(main())
