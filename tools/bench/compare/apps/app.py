import os

with open(os.environ["VERSION_FILE"]) as file:
    version = file.read().strip().encode()


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(version)))])
    return [version]
