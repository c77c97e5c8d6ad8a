package recommend

import (
	"context"
	"errors"
	"fmt"

	"github.com/artifactofdevotion/devotion/source/changelog"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// errNoRights refuses a means about which nothing is known before the role may read the table.
var errNoRights = errors.New("the role may not read it, so that it is not known whether this means fits: run the GRANT of another means first, and check again")

// account returns the present role, quoted, on MySQL and MariaDB.
const account = `SELECT CONCAT(QUOTE(LEFT(a.u, CHAR_LENGTH(a.u) - CHAR_LENGTH(SUBSTRING_INDEX(a.u, '@', -1)) - 1)), '@', QUOTE(SUBSTRING_INDEX(a.u, '@', -1)))
	FROM (SELECT CURRENT_USER() AS u) AS a`

// addGrants adds the statements that give the present role the rights that it lacks, so that it can read
// after they have run.
func (s subject) addGrants(ctx context.Context, means []Means) error {
	if s.relation.Grants.Read && (s.relation.Grants.Trigger || !s.postgres()) {
		return nil
	}
	query := account
	if s.postgres() {
		query = "SELECT current_user::text"
	}
	var role string
	if err := s.db.GetContext(ctx, &role, query); err != nil {
		return fmt.Errorf("recommend: %s: asking for the name of the role: %w", s.relation.Label(), err)
	}
	for i := range means {
		m := &means[i]
		switch {
		case m.Refused != "" || m.Allowed:
		case m.Rights == selects:
			m.Script, m.RunAs = s.grants(role), "the owner of the table and its schema"
			if !s.postgres() {
				m.RunAs = "an administrator"
			}
		case m.Package == "changelog" && s.postgres():
			t := &changelog.Table{DB: s.db, Name: s.relation.Label(), Key: s.relation.Key, Logger: quiet()}
			script, err := t.Grants(ctx, role, "")
			if err != nil {
				return fmt.Errorf("recommend: %w", err)
			}
			m.Script = append(m.Script, script...)
		}
	}
	return nil
}

// grants returns the statements that let a role read the table.
func (s subject) grants(role string) []string {
	r := s.relation
	if !s.postgres() {
		return []string{"GRANT SELECT ON " + dialect.QuoteAll(s.sql, []string{r.Database, r.Name}) + " TO " + role + ";"}
	}
	role = dialect.QuoteAll(s.sql, []string{role})
	return []string{
		"GRANT USAGE ON SCHEMA " + dialect.QuoteAll(s.sql, []string{r.Schema}) + " TO " + role + ";",
		"GRANT SELECT ON " + dialect.QuoteAll(s.sql, []string{r.Schema, r.Name}) + " TO " + role + ";",
	}
}
