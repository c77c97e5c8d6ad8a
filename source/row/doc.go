// Package row represents rows whose columns are known only at run time.
//
// A [Row] stores each cell as text. Each type of value has one canonical text, so
// the same value has the same text in every database and with every driver.
// [Row.AppendJSON] and [Row.AppendCSV] write this text without loss: integers are
// not converted to floats, fractions of a second are not truncated, and NULL
// differs from the empty string.
//
// A source scans rows into a [Builder] and takes them out one batch at a time:
//
//	b := row.NewBuilder(row.NewColumns(names, kinds), limit)
//	for rows.Next() {
//		if err := rows.Scan(b.Dest()...); err != nil {
//			return err
//		}
//		b.Add()
//	}
//	records := b.Rows()
//
// The rows of one batch share their memory. A batch needs only a few allocations,
// and its memory is freed when none of its rows is in use any more.
//
// A [Change] is an insert, update or delete of one row.
//
// # Text formats
//
// The text of a cell depends on the Go type that the driver returns, and on the
// [Kind] of the column where the Go type is ambiguous. The column "text" below is
// what [Row.Text] returns and what CSV contains, quoted if RFC 4180 requires it.
// In JSON the same text is either a literal or a string.
//
//	value                                 text                              JSON
//	NULL of any type                      empty; nothing in CSV             null
//	bool                                  true, false                       literal
//	smallint, integer, bigint, serial,    9223372036854775807               literal
//	  oid, YEAR, unsigned to 2^64-1
//	numeric, decimal, DECIMAL             the database's digits             literal
//	real, float4, FLOAT                   0.1 (shortest that parses back    literal
//	  at 32 bits)
//	double precision, DOUBLE, REAL        1e+300 (shortest at 64 bits)      literal
//	NaN and infinities of those           NaN, Infinity, -Infinity          string
//	char, varchar, text, name, citext,    unchanged, including padding      string
//	  xml, enum, ENUM, SET; JSON of
//	  MariaDB, which is a LONGTEXT
//	bytea, BLOB, BINARY, VARBINARY        base64 (RFC 4648, padded)         string
//	uuid                                  as the database writes it         string
//	jsonb; JSON of MySQL                  as the database writes it         literal
//	json of Postgres                      without insignificant white       literal
//	                                      space, otherwise untouched
//	date, DATE                            2026-01-31                        string
//	time, TIME                            23:59:59.123456, 24:00:00,        string
//	                                      -838:59:59
//	timetz                                23:59:59.5+02:00                  string
//	timestamp, DATETIME, TIMESTAMP        2026-01-31T23:59:59.123456        string
//	  of MySQL
//	timestamptz                           2026-01-31T23:59:59.123456Z       string
//	  (always UTC)
//	dates and times before year 1         0044-03-15T12:00:00Z BC           string
//	dates and times after year 9999       294276-12-31T23:59:59Z            string
//	infinity of date, timestamp(tz)       infinity, -infinity               string
//	zero dates of MySQL                   0000-00-00, 0000-00-00T00:00:00   string
//	interval                              as the database writes it         string
//	bit(n), varbit of Postgres            10110                             string
//	BIT(n) of MySQL                       22, the unsigned number           literal
//	arrays, ranges, composites, inet,     as the database writes them       string
//	  cidr, macaddr, tsvector, money,
//	  xid8, geometric types of Postgres;
//	  UUID, INET4, INET6 of MariaDB
//	geometric types of MySQL              base64 of the internal format     string
//	SQLite, by the type of each value:    as the rows above                 as above
//	  INTEGER, REAL, TEXT, BLOB
//
// Fractions of a second have no trailing zeros, as RFC 3339 allows. A TIMESTAMP of
// MySQL has the local time of the session's time zone. Other values that are
// written as the database writes them may also depend on settings of the session.
// A type that is not listed is written as the database writes it, as a string.
//
// Text that is not valid UTF-8 can come from SQLite and from SQL_ASCII databases.
// JSON has no strings for it, so it is written as {"base64":"/w=="}. No byte is
// lost, and other rows are not affected. In CSV such text is unchanged.
//
// Numbers in JSON have no limit, but many JSON parsers convert them to floats. To
// read bigint and numeric columns, configure the parser to keep all digits. In Go
// this is [encoding/json.Decoder.UseNumber].
//
// # Requirements for a source
//
// Some drivers and servers change a value before a cell receives it. A source
// must prevent that:
//
//   - go-sql-driver/mysql with parseTime changes zero dates to the year 1,
//     2026-02-30 to March 2, and adds an hour to a DATETIME that does not exist in
//     its time zone. Select CAST(c AS CHAR) for DATE, DATETIME and TIMESTAMP
//     columns.
//   - MySQL and MariaDB print FLOAT with six digits in the text protocol, which is
//     used for statements without arguments. Select c * 1e0, with kind Float32.
//   - go-sql-driver/mysql returns a BIGINT UNSIGNED of 2^63 or more as text if the
//     statement has arguments. Use kind Number for such columns.
//   - lib/pq returns the time 24:00 as midnight of the next day. The kinds Time and
//     TimeTZ reverse that.
//   - Text has the character set of the connection. Make sure that it is UTF-8.
//   - The SQLite drivers convert values by the declared type of the column. Select
//     +c, which has no declared type, with kind Auto.
package row
