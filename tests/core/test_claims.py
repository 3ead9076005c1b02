"""Tokens: which are good, which are not, and why."""

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.claims import HEADERS_MAX, Claims, Key, Rules, Verifier, sign
from gateway.core.close import Refusal
from gateway.protocol.codes import Code

SECRET, OTHER = "the-app-secret-of-32-bytes-length", "another-secret-of-32-bytes-length"
FOREIGN = "a-foreign-secret-as-long-as-HS512-wants-it-" * 2
NOW = 1_800_000_000_000
NOW_S = NOW // 1000
OWN = Key(SECRET, frozenset({"HS256"}))
GOOD = {"sub": "alice", "aud": "app", "iat": NOW_S, "iat_ms": NOW + 7, "jti": "j1", "exp": NOW_S + 60}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def verifier(*keys: Key, **rules: Any) -> Verifier:
    return Verifier(Rules("app", **rules), keys or (OWN,))


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def refusal_of(token: str, judge: Verifier | None = None, now_ms: int = NOW) -> Refusal:
    with pytest.raises(Refusal) as raised:
        (judge or verifier()).verify(token, now_ms)
    return raised.value


def test_a_good_token_says_who_and_when_in_milliseconds() -> None:
    assert verifier().verify(sign(GOOD, SECRET), NOW) == Claims("alice", NOW + 7, NOW + 60_000, "j1", False)


def test_without_our_own_claim_the_second_counts_and_an_own_token_may_never_end() -> None:
    claims = verifier().verify(sign({"sub": "alice", "aud": ["other", "app"], "iat": NOW_S}, SECRET), NOW)
    assert claims == Claims("alice", NOW, None, "", False)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "another-app"}, "another app"),
        ({"aud": None}, "another app"),
        ({"aud": [{}]}, "another app"),
        ({"sub": None}, "no valid user"),
        ({"sub": 5}, "no valid user"),
        ({"sub": "a b"}, "no valid user"),
        ({"sub": "alice\n"}, "no valid user"),
        ({"sub": "x" * 65}, "no valid user"),
        ({"iat": None, "iat_ms": None}, "no issue time"),
        ({"iat": "now", "iat_ms": None}, "iat is not a time"),
        ({"iat": True, "iat_ms": None}, "iat is not a time"),
        ({"iat": 10**400, "iat_ms": None}, "iat is not a time"),
        ({"iat": -(10**400), "iat_ms": -(10**400)}, "iat is not a time"),
        ({"exp": float("nan")}, "exp is not a time"),
        ({"exp": float("inf")}, "exp is not a time"),
        ({"exp": "soon"}, "exp is not a time"),
        ({"iat_ms": NOW + 5_001}, "not valid yet (iat)"),
        ({"nbf": NOW_S + 6}, "not valid yet (nbf)"),
        ({"jti": 5}, "jti"),
        ({"jti": "x" * 129}, "jti"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_claim_that_does_not_stand(changes: dict[str, Any], why: str) -> None:
    claims = {name: value for name, value in (GOOD | changes).items() if value is not None}
    refusal = refusal_of(jwt.encode(claims, SECRET))
    assert refusal.code == Code.TOKEN_INVALID
    assert why in refusal.reason


@pytest.mark.parametrize("claim", ["jti", "sub"])
def test_half_a_character_is_refused(claim: str) -> None:
    refusal = refusal_of(jwt.encode(GOOD | {claim: "a\ud800"}, SECRET), verifier(user_pattern=".+"))
    assert refusal.code == Code.TOKEN_INVALID


def test_within_the_clock_skew_it_is_valid_already() -> None:
    claims = GOOD | {"iat_ms": NOW + 5_000, "nbf": NOW_S + 5}
    assert verifier().verify(sign(claims, SECRET), NOW).issued_at == NOW + 5_000


def test_an_own_token_ends_on_the_millisecond() -> None:
    token = sign(GOOD, SECRET)
    verifier().verify(token, NOW + 59_999)
    assert refusal_of(token, now_ms=NOW + 60_000).code == Code.TOKEN_EXPIRED


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"alg": "none"},
        {"alg": "None"},
        {"alg": "HS512"},
        {"alg": "RS256"},
        {"alg": None},
        {"alg": []},
        {"alg": {}},
        {"alg": 5},
        {"alg": "HS256", "kid": 5},
        {"alg": "HS256", "crit": ["x"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("signature", ["", part(b"x" * 32)], ids=["unsigned", "signed"])
def test_a_header_that_is_not_ours(header: dict[str, Any], signature: str) -> None:
    assert refusal_of(f"{part(header)}.{part(GOOD)}.{signature}").code == Code.TOKEN_INVALID


def test_a_wrong_signature() -> None:
    assert "signature" in refusal_of(sign(GOOD, OTHER)).reason
    head, _, signature = sign(GOOD, SECRET).split(".")
    assert refusal_of(f"{head}.{part(GOOD | {'sub': 'bob'})}.{signature}").code == Code.TOKEN_INVALID


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "x" * 10000,
        "x" * 4096,
        "\x00",
        "€.€.€",
        f"{part(b'[' * 2000)}.e30.e30",
        f"{part(b'[]')}.e30.",
        f"{part({'alg': 'HS256'})}.{part(b'[' * 1500)}.",
    ],
    ids=lambda token: token[:20],
)
def test_garbage(token: str) -> None:
    assert refusal_of(token).code == Code.TOKEN_INVALID


@given(st.text(max_size=300) | st.lists(st.binary(max_size=60).map(part), min_size=2, max_size=4).map(".".join))
def test_any_text_is_refused_and_nothing_else(token: str) -> None:
    refusal_of(token)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), st.none() | st.integers() | st.text()))
def test_any_header_is_refused_and_nothing_else(header: dict[str, Any]) -> None:
    refusal_of(f"{part(header)}.{part(GOOD)}.{part(b'x')}")


def signed_by_hand(header: str, payload: str, secret: str = SECRET) -> str:
    signature = hmac.digest(secret.encode(), f"{header}.{payload}".encode(), "sha256")
    return f"{header}.{payload}.{part(signature)}"


def outcome(judge: Verifier, token: str, now_ms: int = NOW) -> Claims | tuple[int, str]:
    try:
        return judge.verify(token, now_ms)
    except Refusal as refusal:
        return refusal.code, refusal.reason


PLAIN = sign(GOOD, SECRET).partition(".")[0]
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "aud", "iat", "iat_ms", "exp", "nbf", "jti"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.just("app"), max_size=2),
)


class TestUnderAHeaderAcceptedBefore:
    """Tokens that are judged without the library: as the library would judge them."""

    @given(CLAIMS, st.sampled_from([SECRET, OTHER]))
    def test_any_claims(self, changes: dict[str, Any], secret: str) -> None:
        known = verifier()
        known.verify(sign(GOOD, SECRET), NOW)
        token = signed_by_hand(PLAIN, part(GOOD | changes), secret)
        assert outcome(known, token) == outcome(verifier(), token)

    @given(st.binary(max_size=40) | st.sampled_from([b'{"a":1,"a":2}', b"[]", b'{"sub":"\\ud800"}', b"\xef\xbb\xbf{}"]))
    def test_any_payload(self, payload: bytes) -> None:
        known = verifier()
        known.verify(sign(GOOD, SECRET), NOW)
        token = signed_by_hand(PLAIN, part(payload))
        assert outcome(known, token) == outcome(verifier(), token)

    @given(st.integers(0, 300), st.sampled_from([*".=-_+/a\n€", "", "=="]), st.integers(0, 2))
    def test_any_change_of_the_text(self, at: int, put: str, over: int) -> None:
        known = verifier()
        good = sign(GOOD, SECRET)
        known.verify(good, NOW)
        token = good[:at] + put + good[at + over :]
        assert outcome(known, token) == outcome(verifier(), token)

    @pytest.mark.parametrize("put", [".", "=", "==", "\n", "+"])
    def test_a_payload_that_is_no_base64url_though_signed(self, put: str) -> None:
        known = verifier()
        known.verify(sign(GOOD, SECRET), NOW)
        token = signed_by_hand(PLAIN, part(GOOD) + put)
        assert outcome(known, token) == outcome(verifier(), token)

    def test_a_key_that_has_ended_or_gone(self) -> None:
        old = Key(SECRET, frozenset({"HS256"}), until=NOW + 1)
        known, token = verifier(old, Key(OTHER, frozenset({"HS256"}))), sign(GOOD, SECRET)
        known.verify(token, NOW)
        assert refusal_of(token, known, NOW + 1).code == Code.TOKEN_INVALID
        known.keys = known.keys[1:]
        assert refusal_of(token, known).code == Code.TOKEN_INVALID
        assert known.verify(sign(GOOD, OTHER), NOW).user == "alice"
        assert refusal_of(token, known).code == Code.TOKEN_INVALID

    def test_foreign_stays_foreign(self) -> None:
        known = verifier(OWN, Key(FOREIGN, frozenset({"HS256"}), foreign=True))
        for _ in range(2):
            assert known.verify(jwt.encode(GOOD, FOREIGN), NOW).foreign
            assert not known.verify(sign(GOOD, SECRET), NOW).foreign

    def test_many_headers_are_not_all_remembered(self) -> None:
        known = verifier()
        for number in range(3 * HEADERS_MAX):
            token = signed_by_hand(part({"alg": "HS256", "kid": str(number)}), part(GOOD))
            assert known.verify(token, NOW) == known.verify(token, NOW)
        assert len(known._accepted) <= HEADERS_MAX


class TestRotation:
    def test_the_previous_secret_is_accepted_until_its_date(self) -> None:
        judge = verifier(OWN, Key(OTHER, frozenset({"HS256"}), until=NOW + 1000))
        token = sign(GOOD, OTHER)
        assert judge.verify(token, NOW + 999).user == "alice"
        assert refusal_of(token, judge, NOW + 1000).code == Code.TOKEN_INVALID
        assert judge.verify(sign(GOOD, SECRET), NOW + 1000).user == "alice"


class TestForeign:
    CLAIMS = {"sub": "alice", "aud": "app", "iat": NOW_S, "exp": NOW_S + 60}

    @pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
    def test_by_secret(self, algorithm: str) -> None:
        judge = verifier(OWN, Key(FOREIGN, frozenset({algorithm}), foreign=True))
        token = jwt.encode(self.CLAIMS, FOREIGN, algorithm=algorithm)
        assert judge.verify(token, NOW) == Claims("alice", NOW, NOW + 60_000, "", True)

    @pytest.mark.parametrize(
        ("private", "algorithm"),
        [(RSA, "RS256"), (RSA, "RS512"), (EC, "ES256"), (ED, "EdDSA")],
        ids=["RS256", "RS512", "ES256", "EdDSA"],
    )
    def test_by_public_key(self, private: Any, algorithm: str) -> None:
        judge = verifier(OWN, Key(pem(private), frozenset({algorithm}), foreign=True))
        token = jwt.encode(self.CLAIMS, private, algorithm=algorithm)
        assert judge.verify(token, NOW).foreign
        # The list of algorithms is fixed, not the token's to choose.
        judge = verifier(OWN, Key(pem(private), frozenset({"RS384"}), foreign=True))
        assert refusal_of(token, judge).code == Code.TOKEN_INVALID

    def test_a_public_key_is_no_hmac_secret(self) -> None:
        # The classic confusion: the token is signed with the public key's bytes as an HMAC secret.
        judge = verifier(OWN, Key(pem(RSA), frozenset({"RS256"}), foreign=True))
        body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(self.CLAIMS)}"
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(body.encode(), pem(RSA))
        assert refusal_of(f"{body}.{part(signature)}", judge).code == Code.TOKEN_INVALID

    def test_no_end_is_refused(self) -> None:
        judge = verifier(OWN, Key(FOREIGN, frozenset({"HS256"}), foreign=True))
        claims = {name: value for name, value in self.CLAIMS.items() if name != "exp"}
        assert "exp" in refusal_of(jwt.encode(claims, FOREIGN), judge).reason

    def test_its_end_is_judged_within_the_skew(self) -> None:
        judge = verifier(OWN, Key(FOREIGN, frozenset({"HS256"}), foreign=True))
        token = jwt.encode(self.CLAIMS, FOREIGN)
        assert judge.verify(token, NOW + 64_999).user == "alice"
        assert refusal_of(token, judge, NOW + 65_000).code == Code.TOKEN_EXPIRED

    def test_audience_issuer_and_user_claim_as_configured(self) -> None:
        rules = {"foreign_audience": "shop", "foreign_issuer": "https://id.example", "foreign_user_claim": "uid"}
        judge = verifier(OWN, Key(FOREIGN, frozenset({"HS256"}), foreign=True), **rules)
        claims = {"uid": "alice", "aud": ["shop"], "iss": "https://id.example", "iat": NOW_S, "exp": NOW_S + 60}
        assert judge.verify(jwt.encode(claims, FOREIGN), NOW).user == "alice"
        for name, value in (("aud", "app"), ("iss", "https://evil.example"), ("uid", 5)):
            assert refusal_of(jwt.encode(claims | {name: value}, FOREIGN), judge).code == Code.TOKEN_INVALID
        # The gateway's own tokens are held to the app key all the same.
        assert judge.verify(sign(GOOD, SECRET), NOW).user == "alice"

    def test_a_key_with_an_id_serves_tokens_that_name_it(self) -> None:
        key = Key(FOREIGN, frozenset({"HS256"}), foreign=True, kid="k1")
        judge = Verifier(Rules("app"), [key])
        assert judge.verify(jwt.encode(self.CLAIMS, FOREIGN, headers={"kid": "k1"}), NOW).user == "alice"
        assert judge.unknown_kids == 0
        refusal_of(jwt.encode(self.CLAIMS, FOREIGN, headers={"kid": "k2"}), judge)
        assert judge.unknown_kids == 1
        refusal_of(jwt.encode(self.CLAIMS, FOREIGN), judge)
        assert judge.unknown_kids == 1
