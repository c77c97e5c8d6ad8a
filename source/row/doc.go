// Package row has rows whose columns are known only at run time.
//
// A [Row] holds every cell as text, in one canonical form for each type of
// value, so that the same value reads the same whatever database or driver it
// came from. [Row.AppendJSON] and [Row.AppendCSV] write that text and nothing
// is lost on the way: no integer is squeezed through a float, no fraction of a
// second cut, no NULL mistaken for an empty string.
//
// A source fills a [Builder] by scanning into its cells and hands over the rows
// of a batch at a time:
//
//	b := row.NewBuilder(row.NewColumns(names, kinds), max)
//	for rows.Next() {
//		if err := rows.Scan(b.Dest()...); err != nil {
//			return err
//		}
//		b.Add()
//	}
//	records := b.Rows()
//
// The rows of one batch share their memory: a few allocations for all of them,
// and all of it is garbage once no row of the batch is in use.
//
// # The text of every type
//
// What a cell holds is decided by the Go type the driver hands out, and by the
// column's [Kind] where that does not tell enough. "Text" is what [Row.Text]
// returns and, quoted where RFC 4180 wants it, what stands in CSV. In JSON it
// stands as it is where the table says literal, and as a string otherwise.
//
//	value                                 text                              JSON
//	NULL of any type                      empty; nothing in CSV             null
//	bool                                  true, false                       literal
//	smallint, integer, bigint, serial,    9223372036854775807               literal
//	  oid, YEAR, unsigned to 2^64-1
//	numeric, decimal, DECIMAL             the database's digits             literal
//	real, float4, FLOAT                   0.1 (shortest that reads back     literal
//	  at 32 bits)
//	double precision, DOUBLE, REAL        1e+300 (likewise at 64 bits)      literal
//	NaN and infinities of those           NaN, Infinity, -Infinity          string
//	char, varchar, text, name, citext,    as it is, padding included        string
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
//	geometric types of MySQL              base64 of its own binary form     string
//	SQLite, by each value's own type:     as the rows above                 likewise
//	  INTEGER, REAL, TEXT, BLOB
//
// Fractions of a second are written without trailing zeros, as RFC 3339 allows.
// A TIMESTAMP of MySQL is written as the clock of the session's time zone shows
// it, and what is written as the database prints it may depend on a session's
// settings likewise. A type that is not listed is written that way, as a string.
//
// Two things a reader may stumble over. Text that is not valid UTF-8, which
// SQLite and SQL_ASCII databases can hold, is no JSON string; it is written as
// {"base64":"/w=="}, so that no byte is lost and no other row is held up by it;
// in CSV it stands as it is. And the numbers of JSON have no limits, but those of
// many readers do: tell yours to keep digits ([encoding/json.Decoder.UseNumber]
// in Go) where bigint or numeric columns are read.
//
// # What a source must see to
//
// Some drivers and servers change a value before a cell gets it:
//
//   - go-sql-driver/mysql with parseTime makes zero dates the year 1, 2026-02-30
//     the 2nd of March, and a DATETIME that its loc skips an hour later. Select
//     CAST(c AS CHAR) of DATE, DATETIME and TIMESTAMP columns.
//   - MySQL and MariaDB print FLOAT with six digits in the text protocol, which a
//     statement without arguments uses. Select c * 1e0, as Float32.
//   - go-sql-driver/mysql hands out a BIGINT UNSIGNED of 2^63 or more as text
//     where a statement has arguments. Take such columns for Number.
//   - lib/pq hands out a time of 24:00 as the next day's midnight, which Time and
//     TimeTZ undo.
//   - Text arrives in the connection's character set. Make sure that it is UTF-8.
//   - The SQLite drivers rewrite values by a column's declared type. Select +c,
//     which has none, as Auto.
package row
