// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/apex/log"

	"github.com/shale-oci/shale/internal/quote"
)

// logHandler writes log entries to the console, one line each.
type logHandler struct{ console *console }

var levelNames = map[log.Level]string{
	log.DebugLevel: "debug",
	log.InfoLevel:  "info",
	log.WarnLevel:  "warning",
	log.ErrorLevel: "error",
	log.FatalLevel: "fatal",
}

// HandleLog implements [log.Handler].
func (h *logHandler) HandleLog(e *log.Entry) error {
	var b strings.Builder
	fmt.Fprintf(&b, "shale: %s: %s", levelNames[e.Level], e.Message)
	for _, name := range e.Fields.Names() {
		fmt.Fprintf(&b, " %s=%s", name, quote.Name(fmt.Sprint(e.Fields[name])))
	}
	h.console.println(b.String())
	return nil
}
