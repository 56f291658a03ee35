"""The client of a Cuvée server: one typed method per operation, over httpx.

::

    from cuvee import JobSpec
    from cuvee.client import Client

    with Client("http://127.0.0.1:8321") as client:
        job = client.submit(JobSpec(corpus="web-and-code", rungs=[{"kind": "ngram"}]))
        for event in client.events(job.id):
            print(event.type)
        print(client.report(job.id).verdict)

Errors are the classes of ``cuvee.errors``, the same that the server raised. A server that cannot be
reached is an ``UnavailableError`` that names the address.
"""

from cuvee.client._client import DEFAULT_URL as DEFAULT_URL
from cuvee.client._client import Client as Client

__all__ = ["DEFAULT_URL", "Client"]
