package words;

import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.Tokenizer;
import org.apache.lucene.analysis.core.KeywordTokenizer;
import org.apache.lucene.analysis.miscellaneous.RemoveDuplicatesTokenFilter;
import org.elasticsearch.plugin.NamedComponent;
import org.elasticsearch.plugin.analysis.TokenFilterFactory;
import org.elasticsearch.plugin.analysis.TokenizerFactory;

/**
 * Three names that Elasticsearch's index of users, roles and API keys asks for, and that its server without modules
 * does not know. They serve to search for e-mail addresses, which no test does: so they do next to nothing.
 * Built and loaded by SecureElasticsearch.pm.
 */
public class Words {
    @NamedComponent("pattern_capture")
    public static class Capture implements TokenFilterFactory {
        public TokenStream create(TokenStream words) { return words; }
    }

    @NamedComponent("unique")
    public static class Unique implements TokenFilterFactory {
        public TokenStream create(TokenStream words) { return new RemoveDuplicatesTokenFilter(words); }
    }

    @NamedComponent("uax_url_email")
    public static class Address implements TokenizerFactory {
        public Tokenizer create() { return new KeywordTokenizer(); }
    }
}
