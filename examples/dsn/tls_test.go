package dsn

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What drivers, frameworks and hosting providers write about TLS. Postgres first, MySQL
// second, "refused" for a malformed DSN.
func TestWishesForTLS(t *testing.T) {
	t.Parallel()
	for query, want := range map[string][2]string{
		"":                                 {"prefer", ""},
		"sslmode=disable":                  {"plain", "false"},
		"sslmode=allow":                    {"plain", "preferred"}, // pgx falls back to TLS
		"sslmode=prefer":                   {"prefer", "preferred"},
		"sslmode=require":                  {"tls", "skip-verify"},
		"sslmode=verify-full":              {"verify", "true"},
		"sslmode=no-verify":                {"tls", "skip-verify"}, // node-postgres
		"sslmode=verify_identity":          {"verify", "true"},
		"ssl-mode=DISABLED":                {"plain", "false"}, // mysql
		"ssl-mode=PREFERRED":               {"prefer", "preferred"},
		"ssl-mode=REQUIRED":                {"tls", "skip-verify"},
		"ssl-mode=VERIFY_IDENTITY":         {"verify", "true"},
		"ssl_mode=REQUIRED":                {"tls", "skip-verify"}, // SQLAlchemy
		"sslMode=trust":                    {"tls", "skip-verify"}, // MariaDB Connector/J
		"sslMode=verify-full":              {"verify", "true"},
		"sslMode=disable":                  {"plain", "false"},
		"ssl=require":                      {"tls", "skip-verify"}, // asyncpg
		"ssl=prefer":                       {"prefer", "preferred"},
		"ssl=disable":                      {"plain", "false"},
		"ssl=verify-full":                  {"verify", "true"},
		"ssl=true":                         {"tls", "skip-verify"}, // node-postgres, mysql2
		"ssl=1":                            {"tls", "skip-verify"},
		"ssl=TRUE":                         {"tls", "skip-verify"},
		"ssl=false":                        {"plain", "false"},
		"ssl=0":                            {"plain", "false"},
		"ssl=no-verify":                    {"tls", "skip-verify"},
		`ssl={"rejectUnauthorized":true}`:  {"verify", "true"}, // PlanetScale
		`ssl={"rejectUnauthorized": true}`: {"verify", "true"},
		`ssl=%7B%22rejectUnauthorized%22%3A%20true%7D`:  {"verify", "true"},
		`ssl={"rejectUnauthorized":false}`:              {"tls", "skip-verify"},
		`ssl={}`:                                        {"verify", "true"},
		"ssl_require=true":                              {"tls", "skip-verify"}, // dj-database-url
		"ssl_require=False":                             {"prefer", ""},
		"useSSL=true":                                   {"tls", "skip-verify"}, // Connector/J
		"useSSL=false":                                  {"plain", "false"},
		"useSSL=true&requireSSL=false":                  {"tls", "skip-verify"},
		"useSSL=true&requireSSL=true":                   {"tls", "skip-verify"},
		"useSSL=true&verifyServerCertificate=true":      {"verify", "true"},
		"useSSL=true&verifyServerCertificate=false":     {"tls", "skip-verify"},
		"sslMode=PREFERRED&verifyServerCertificate=on":  {"verify", "true"},
		"ssl_verify_cert=true":                          {"verify", "true"}, // PyMySQL
		"ssl_verify_identity=true":                      {"verify", "true"},
		"ssl_verify_identity=false":                     {"prefer", ""},
		"sslaccept=strict":                              {"verify", "true"}, // Prisma
		"sslmode=require&sslaccept=strict":              {"verify", "true"},
		"sslmode=prefer&sslaccept=strict":               {"verify", "true"},
		"sslaccept=accept_invalid_certs":                {"tls", "skip-verify"},
		"sslmode=prefer&sslaccept=accept_invalid_certs": {"prefer", "preferred"},
		"sslmode=disable&ssl=true":                      {"tls", "skip-verify"}, // the strictest counts
		"tls=true":                                      {"verify", "true"},     // the Go driver of MySQL
		"tls=skip-verify":                               {"tls", "skip-verify"},
		"tls=preferred":                                 {"prefer", "preferred"},
		"tls=false":                                     {"plain", "false"},
		"enabledTLSProtocols=TLSv1.2,TLSv1.3":           {"prefer", ""},
		"gssencmode=disable":                            {"prefer", ""},

		"sslmode=nonsense":                 {"refused", "refused"},
		"ssl-mode=nonsense":                {"refused", "refused"},
		"ssl=nonsense":                     {"refused", "refused"},
		"ssl=Amazon RDS":                   {"refused", "refused"},
		"ssl=tru":                          {"refused", "refused"},
		`ssl={"ca":"x"}`:                   {"refused", "refused"},
		`ssl={"rejectUnauthorized":"yes"}`: {"refused", "refused"},
		`ssl={"rejectUnauthorized"`:        {"refused", "refused"},
		"useSSL=maybe":                     {"refused", "refused"},
		"requireSSL=maybe":                 {"refused", "refused"},
		"verifyServerCertificate=maybe":    {"refused", "refused"},
		"sslaccept=maybe":                  {"refused", "refused"},
		"tls=custom":                       {"refused", "refused"},
		"gssencmode=require":               {"refused", "refused"},
		"enabledTLSProtocols=TLSv1.3":      {"refused", "refused"},
		"sslfactory=org.example.Mine":      {"refused", "refused"},
	} {
		for i, base := range []string{"postgres://ada:hunter2@db/shop?", "mysql://ada:hunter2@db/shop?"} {
			assert.Equal(t, want[i], tlsOf(t, base+query), base+query)
		}
	}
	for text, want := range map[string]string{
		"jdbc:postgresql://db/shop?ssl=true": "verify",
		"jdbc:postgresql://db/shop?ssl":      "verify",
		"jdbc:postgresql://db/shop?ssl=true&sslfactory=org.postgresql.ssl.NonValidatingFactory":  "tls",
		"jdbc:postgresql://db/shop?ssl=true&sslmode=prefer":                                      "verify",
		"jdbc:postgresql://db/shop?ssl=false":                                                    "plain",
		"jdbc:mariadb://db/shop?sslMode=trust":                                                   "skip-verify",
		"jdbc:mariadb://db/shop?sslMode=VERIFY_CA":                                               "true",
		"postgresql+asyncpg://ada@db/shop?ssl=nonsense":                                          "refused",
		"host=db user=ada sslmode=nonsense":                                                      "refused",
		"ada:hunter2@tcp(db)/shop?tls=nonsense":                                                  "refused",
		"ada:hunter2@tcp(db)/shop?tls=skip-verify":                                               "skip-verify",
		"postgres://ada@db/shop?sslmode=verify-full&sslrootcert=system":                          "verify",
		"postgres://ada@db/shop?sslrootcert=system&ssl=nonsense":                                 "refused",
		"jdbc:mysql://db/shop?sslMode=DISABLED&useSSL=false&requireSSL=false&user=a&password=ab": "false",
	} {
		assert.Equal(t, want, tlsOf(t, text), text)
	}
	_, err := wish(url.Values{"ssl": {secret}}, false)
	assert.ErrorContains(t, err, "has a value of ssl that is not known: want disable, prefer, require, verify-ca, verify-full, true or false")
}

// tlsOf returns the mode of TLS of a DSN in words.
func tlsOf(t *testing.T, text string) string {
	t.Helper()
	target, err := parse(text)
	if err != nil {
		assert.ErrorIs(t, err, ErrMalformed, text)
		hidden(t, err, text)
		return "refused"
	}
	mode := target.words()[strings.LastIndex(target.words(), " ")+1:]
	return map[bool]string{true: "", false: mode}[strings.Contains(mode, "@")]
}
