"""
The Ring Partner API as a typed library: no Django, no models, no settings, no logging of secrets.

Where a rule of Ring's is looked up:

- `ring.nonce`      the account-link nonce and how long it lives (contract 2.5, 2.6)
- `ring.signature`  the HMAC over a webhook's raw bytes (contract 9.1)
- `ring.oauth`      code and refresh token to token pair (contract 2.3, 4)
- `ring.documents`  JSON:API answers and webhook bodies as frozen dataclasses (contract 6-9, 13)
- `ring.client`     one method per endpoint (contract 2.8-2.9, 6-8, 10-13)
- `ring.media`      following a download, without the bearer, into a file (contract 11)
- `ring.addresses`  which addresses a token or a download may go to (contract 10.1, 11.1)
- `ring.errors`     the few kinds of failure a caller can act on (contract 15)
"""
